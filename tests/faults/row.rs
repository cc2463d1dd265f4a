//! What one fault did to one policy: a row of the table, and whether the promises were kept.

use std::fmt::Write as _;
use std::time::Duration;

use super::policy::{Door, Policy, Promise};
use crate::support::checker::Totals;
use crate::support::{full, say};

/// What `/metrics` says became of the lines of the route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Lines received.
    pub received: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Records sent again.
    pub resent: u64,
    /// Records dropped, by reason, those reasons that occurred.
    pub dropped: Vec<(String, u64)>,
}

impl Counted {
    /// Reads it from the text of `/metrics`.
    pub(crate) fn of(metrics: &str) -> Counted {
        let sum = |name: &str| metrics.lines().filter_map(|l| value(l, name)).sum::<u64>();
        let name = "logchute_lines_dropped_total";
        let dropped = metrics.lines().filter_map(|line| {
            let count = value(line, name).filter(|&count| count > 0)?;
            let reason = line.split("reason=\"").nth(1)?.split('"').next()?;
            Some((reason.to_owned(), count))
        });
        Counted {
            received: sum("logchute_lines_received_total"),
            delivered: sum("logchute_lines_delivered_total"),
            resent: sum("logchute_lines_resent_total"),
            dropped: dropped.collect(),
        }
    }

    /// Records dropped, for any reason.
    pub(crate) fn all_dropped(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing is on its way any more.
    pub(crate) fn settled(&self) -> bool {
        self.received == self.delivered + self.all_dropped()
    }
}

fn value(line: &str, name: &str) -> Option<u64> {
    let rest = line.strip_prefix(name)?.strip_prefix('{')?;
    rest.rsplit(' ').next()?.parse().ok()
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The policy that met the fault.
    pub policy: Policy,
    /// What came, against what was written.
    pub totals: Totals,
    /// What the program counted; `None` where the fault is its own end.
    pub counted: Option<Counted>,
    /// Lines that the receiver acknowledged and took with it when it ended.
    pub taken: u64,
    /// Lines that the daemon lost on their way to its log.
    pub unlogged: u64,
    /// Lines that may have come again though nobody counted them, as who counted them has ended.
    pub uncounted: u64,
    /// The longest write of the containers.
    pub slowest: Duration,
    /// That of a container beside them which the program does not follow.
    pub slowest_alone: Duration,
    /// How often the connection ended.
    pub ends: u64,
    /// How long the receiver did not take anything.
    pub away: Duration,
    /// The program's peak memory before the fault, and in all.
    pub peak: (u64, u64),
    /// The memory that the route may have.
    pub buffer: u64,
    /// Length of a line.
    pub bytes: u64,
    /// What the program said.
    pub said: String,
}

impl Row {
    /// What was not kept of what was promised.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let Totals { lost, duplicated, damaged, unknown, .. } = self.totals;
        let dropped = self.counted.as_ref().map_or(0, Counted::all_dropped);
        let mut all = Vec::new();
        let mut expect = |kept: bool, what: String| all.extend((!kept).then_some(what));
        if self.policy.promise == Promise::KeepsAll {
            expect(dropped == 0, format!("{dropped} dropped"));
        }
        // A record that its receiver had written half when it was killed, and the one behind it.
        let torn = 2 * damaged;
        let most = dropped + self.taken + self.unlogged + torn;
        expect(lost <= most, format!("{lost} lost, of which only {most} are accounted for"));
        if self.policy.door == Door::Relp {
            expect(self.taken == 0, format!("{} acknowledged and not there", self.taken));
        }
        // A line that was being written when the receiver or the daemon ended, as two halves.
        expect(
            damaged + unknown <= 2 * self.ends.max(1),
            format!("{damaged} damaged, {unknown} unknown"),
        );
        if let Some(counted) = &self.counted {
            let sent = self.totals.expected;
            let received = counted.received;
            let (least, most) = (sent - self.unlogged, sent + self.uncounted);
            let all = (least..=most).contains(&received);
            expect(all, format!("{received} received of {sent}, at least {least} were there"));
            expect(counted.settled(), format!("not settled: {counted:?}"));
            // Of what was dropped, the oldest may have come: it had been sent when the connection
            // ended, was not acknowledged, and had to make room before it was sent again.
            let came = self.ends * self.buffer / 2 / self.bytes;
            let most = lost + came + self.uncounted;
            expect(dropped <= most, format!("{dropped} dropped, but only {lost} lost"));
        }
        let again = self.uncounted + self.counted.as_ref().map_or(0, |c| c.resent);
        expect(duplicated <= again, format!("{duplicated} came twice, of {again} sent again"));
        // A container that is held up stands still as long as the receiver does.
        let limit = self.slowest_alone + (self.away / 2).max(Duration::from_secs(1));
        expect(
            self.slowest <= limit,
            format!("a write took {:?}, the limit is {limit:?}", self.slowest),
        );
        let (before, in_all) = self.peak;
        // Of that, up to 8 MiB are held of containers that come back from their logs (`shard::hold`).
        // What a machine that is busy with other tests lets pile up comes on top of it.
        let more = if full() { 16 << 20 } else { 24 << 20 };
        let most = before + self.buffer + more;
        expect(in_all <= most, format!("{in_all} bytes of memory, {before} before the fault"));
        all
    }

    fn cells(&self) -> String {
        let Totals { expected, lost, duplicated, .. } = self.totals;
        let dropped = match &self.counted {
            None => "not known".to_owned(),
            Some(counted) if counted.dropped.is_empty() => "0".to_owned(),
            Some(counted) => {
                let each =
                    counted.dropped.iter().map(|(reason, count)| format!("{count} {reason}"));
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        format!(
            "{} | {expected} | {} | {lost} | {duplicated} | {dropped} | {} | {} | {} | {} | {}",
            self.policy.name,
            expected - lost,
            self.taken + self.unlogged,
            ms(self.slowest),
            ms(self.slowest_alone),
            mib(self.peak.1),
            mib(self.peak.0),
        )
    }
}

/// The head of the table.
const HEAD: &str = "\
| fault | policy | sent | delivered | lost | duplicated | dropped | beyond reach \
| longest write, ms | without logchute, ms | peak, MiB | before the fault, MiB |
| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |
";

/// Shows the rows of a fault (at full size as markdown), and fails if a promise was not kept.
pub(crate) fn judge(fault: &str, rows: Vec<Option<Row>>) {
    let mut text = if full() { HEAD.to_owned() } else { String::new() };
    let mut broken = String::new();
    for row in rows.into_iter().flatten() {
        let _ = writeln!(text, "| {fault} | {} |", row.cells());
        let complaints = row.complaints();
        if !complaints.is_empty() {
            let Row { policy, totals, counted, .. } = &row;
            let complaints = complaints.join("; ");
            let _ = writeln!(
                broken,
                "{fault}, {}: {complaints}\n  {totals}\n  {counted:?}\n{}",
                policy.name, row.said
            );
        }
    }
    say(&text);
    assert!(broken.is_empty(), "\n{broken}");
}
