//! Joins lines that belong together - a stack trace and what it is about - into one.
//!
//! Pure: lines with what is known of each ([`Mark`]) and a time come in, groups come out. What a
//! mark is given for is not known here: an expression (`route::multiline`) or the shape of a
//! language's traces ([`super::trace`]) says so. Memory of one [`Grouper`]: nothing until a group
//! is begun, then what [`Joint`] allows.
//!
//! The oracle that the tests and the fuzz target `group` compare with is in `naive`; it exists in
//! test and fuzz builds only.

/// Lines that may be waiting to be told whether they belong to the group before them.
const DOUBTFUL_MAX: usize = 4;

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It begins a group.
    First,
    /// It goes on with the group before it, if there is one; else it begins one.
    More,
    /// The same, if a line with [`Mark::More`] or [`Mark::Last`] follows, or more of these and then
    /// such a one. If not, it stands alone.
    Perhaps,
    /// It ends the group before it, or is one by itself.
    Last,
    /// It is one by itself.
    Alone,
}

/// How lines are joined, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joint {
    /// What stands between two lines. Not empty.
    pub separator: Box<[u8]>,
    /// A group that would have more bytes goes out as far as it is; a single line may be longer.
    pub bytes_max: usize,
    /// The same, for its lines.
    pub lines_max: u64,
}

/// Lines that were joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Their text, and a `\n` at its end.
    pub text: &'a [u8],
    /// How many they are.
    pub lines: u64,
    /// The time of the first one, as it was given.
    pub at: u64,
    /// A limit was reached: what follows belongs to it too.
    pub cut: bool,
}

/// A line that may turn out to belong to the group.
#[derive(Clone, Copy, Debug, Default)]
struct Doubtful {
    /// Where the separator before it begins.
    start: usize,
    at: u64,
}

/// Joins the lines of one container and source, for one route.
#[derive(Clone, Debug, Default)]
pub struct Grouper {
    joined: Vec<u8>,
    /// Lines in `joined`; 0 if there is no group. Doubtful ones do not count.
    lines: u64,
    doubtful: [Doubtful; DOUBTFUL_MAX],
    doubtfuls: usize,
    at: u64,
    since: u64,
}

impl Grouper {
    /// Takes the next line, with its `\n`. `at` is its time; `now` counts in the unit of
    /// [`Grouper::is_due`]. `out` gets what is complete by that.
    pub fn push(
        &mut self,
        line: &[u8],
        mark: Mark,
        (at, now): (u64, u64),
        joint: &Joint,
        out: &mut impl FnMut(Group<'_>),
    ) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let goes_on = self.lines > 0;
        match mark {
            Mark::More | Mark::Last if goes_on => {
                self.lines += std::mem::take(&mut self.doubtfuls) as u64;
                if !self.fits(text, joint) {
                    self.end(joint, true, out);
                }
                self.add(text, (at, now), joint);
                if mark == Mark::Last {
                    self.end(joint, false, out);
                }
            }
            Mark::Perhaps if goes_on && self.doubtfuls < DOUBTFUL_MAX && self.fits(text, joint) => {
                self.doubtful[self.doubtfuls] = Doubtful { start: self.joined.len(), at };
                self.doubtfuls += 1;
                self.joined.extend_from_slice(&joint.separator);
                self.joined.extend_from_slice(text);
            }
            Mark::First | Mark::More => {
                self.end(joint, false, out);
                self.add(text, (at, now), joint);
            }
            Mark::Perhaps | Mark::Last | Mark::Alone => {
                self.end(joint, false, out);
                out(Group { text: line, lines: 1, at, cut: false });
            }
        }
    }

    /// Nothing more will come, or it would come too late: `out` gets what there is.
    pub fn flush(&mut self, joint: &Joint, out: &mut impl FnMut(Group<'_>)) {
        self.end(joint, false, out);
    }

    /// There is no more room: `out` gets what there is, as part of a group that may go on.
    pub fn cut(&mut self, joint: &Joint, out: &mut impl FnMut(Group<'_>)) {
        self.end(joint, true, out);
    }

    /// Whether a group is more than `age` old.
    pub fn is_due(&self, now: u64, age: u64) -> bool {
        self.lines > 0 && now.saturating_sub(self.since) > age
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Lines that were pushed and have not come out.
    pub fn lines(&self) -> u64 {
        self.lines + self.doubtfuls as u64
    }

    /// Bytes of the group.
    pub fn pending(&self) -> usize {
        self.joined.len()
    }

    /// Memory for the next group, empty: only where there is none now.
    pub fn lend(&mut self, memory: Vec<u8>) {
        if self.joined.capacity() == 0 {
            self.joined = memory;
        }
    }

    /// Gives the memory back; `None` if there is none, or a group in it.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        let free = self.lines == 0 && self.joined.capacity() > 0;
        free.then(|| std::mem::take(&mut self.joined))
    }

    /// Whether a line more is within the limits.
    fn fits(&self, text: &[u8], joint: &Joint) -> bool {
        let lines = self.lines();
        let len = self.joined.len() + joint.separator.len() + text.len();
        lines < joint.lines_max && len <= joint.bytes_max
    }

    fn add(&mut self, text: &[u8], (at, now): (u64, u64), joint: &Joint) {
        if self.lines == 0 {
            (self.at, self.since) = (at, now);
        } else {
            self.joined.extend_from_slice(&joint.separator);
        }
        self.joined.extend_from_slice(text);
        self.lines += 1;
    }

    /// The group ends, if there is one; doubtful lines do not belong to it.
    fn end(&mut self, joint: &Joint, cut: bool, out: &mut impl FnMut(Group<'_>)) {
        if self.lines == 0 {
            return;
        }
        // A line's end is where the separator of the next one begins.
        let ends = self.doubtful[..self.doubtfuls].iter().map(|line| line.start);
        self.joined.push(b'\n');
        let len = self.joined.len();
        let mut start = 0;
        let mut group = Group { text: &[], lines: self.lines, at: self.at, cut };
        for (number, end) in ends.chain([len - 1]).enumerate() {
            self.joined[end] = b'\n';
            out(Group { text: &self.joined[start..=end], ..group });
            start = end + joint.separator.len();
            let at = self.doubtful.get(number).map_or(0, |line| line.at);
            group = Group { lines: 1, at, cut: false, ..group };
        }
        self.joined.clear();
        (self.lines, self.doubtfuls) = (0, 0);
    }
}

/// The slow, obviously right way, and the comparison with it. In test and fuzz builds only.
#[cfg(any(test, fuzzing))]
pub mod naive {
    use super::{DOUBTFUL_MAX, Group, Grouper, Joint, Mark};

    /// A line, as it is pushed.
    pub type Line = (Vec<u8>, Mark);

    /// A group that came out: its text, how many lines, when it was, whether it was cut.
    type Out = (Vec<u8>, u64, u64, bool);

    /// A group as a list of lines, each with its time.
    #[derive(Default)]
    struct Lists {
        sure: Vec<(Vec<u8>, u64)>,
        doubtful: Vec<(Vec<u8>, u64)>,
        out: Vec<Out>,
    }

    impl Lists {
        fn len(&self, joint: &Joint) -> usize {
            let all = self.sure.iter().chain(&self.doubtful);
            let texts: Vec<&[u8]> = all.map(|(text, _)| &text[..]).collect();
            texts.join(&joint.separator[..]).len()
        }

        fn fits(&self, text: &[u8], joint: &Joint) -> bool {
            let lines = (self.sure.len() + self.doubtful.len()) as u64;
            lines < joint.lines_max
                && self.len(joint) + joint.separator.len() + text.len() <= joint.bytes_max
        }

        fn end(&mut self, joint: &Joint, cut: bool) {
            if let Some(&(_, at)) = self.sure.first() {
                let texts: Vec<&[u8]> = self.sure.iter().map(|(text, _)| &text[..]).collect();
                let lines = texts.len() as u64;
                self.out.push((texts.join(&joint.separator[..]), lines, at, cut));
            }
            self.sure.clear();
            let alone = self.doubtful.drain(..).map(|(text, at)| (text, 1, at, false));
            self.out.extend(alone);
        }

        fn push(&mut self, text: &[u8], mark: Mark, at: u64, joint: &Joint) {
            let line = (text.to_vec(), at);
            let goes_on = !self.sure.is_empty();
            match mark {
                Mark::First => {
                    self.end(joint, false);
                    self.sure.push(line);
                }
                Mark::More | Mark::Last => {
                    if !goes_on && mark == Mark::Last {
                        return self.out.push((line.0, 1, at, false));
                    }
                    self.sure.append(&mut self.doubtful);
                    if goes_on && !self.fits(text, joint) {
                        self.end(joint, true);
                    }
                    self.sure.push(line);
                    if mark == Mark::Last {
                        self.end(joint, false);
                    }
                }
                Mark::Perhaps
                    if goes_on && self.doubtful.len() < DOUBTFUL_MAX && self.fits(text, joint) =>
                {
                    self.doubtful.push(line);
                }
                Mark::Perhaps | Mark::Alone => {
                    self.end(joint, false);
                    self.out.push((line.0, 1, at, false));
                }
            }
        }
    }

    /// Panics unless [`Grouper`] does with `lines` as lists of lines do, and keeps its limits. A
    /// line's time is its number; before those whose number is in `flushes` all goes out.
    pub fn compare(lines: &[Line], joint: &Joint, flushes: &[usize]) {
        let (mut lists, mut grouper) = (Lists::default(), Grouper::default());
        let mut got = Vec::new();
        let mut take = |group: Group<'_>| {
            let text = group.text.strip_suffix(b"\n").expect("a group ends with a newline");
            got.push((text.to_vec(), group.lines, group.at, group.cut));
        };
        let longest = lines.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        for (number, (text, mark)) in lines.iter().enumerate() {
            if flushes.contains(&number) {
                lists.end(joint, false);
                grouper.flush(joint, &mut take);
                assert!(grouper.is_empty() && !grouper.is_due(u64::MAX, 0));
            }
            let line = [text, &b"\n"[..]].concat();
            let number = number as u64;
            grouper.push(&line, *mark, (number, number), joint, &mut take);
            lists.push(text, *mark, number, joint);
            assert_eq!(grouper.is_empty(), lists.sure.is_empty());
            assert_eq!(grouper.pending(), lists.len(joint));
            assert_eq!(grouper.lines() as usize, lists.sure.len() + lists.doubtful.len());
            assert!(grouper.pending() <= joint.bytes_max.max(longest));
            let since = lists.sure.first().map(|(_, at)| *at);
            assert_eq!(grouper.is_due(number, 3), since.is_some_and(|since| number > since + 3));
        }
        lists.end(joint, false);
        grouper.flush(joint, &mut take);
        assert_eq!(got, lists.out);
        assert_eq!(got.iter().map(|(_, lines, ..)| lines).sum::<u64>(), lines.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joint(separator: &str, bytes_max: usize, lines_max: u64) -> Joint {
        Joint { separator: separator.as_bytes().into(), bytes_max, lines_max }
    }

    /// The groups, each with how many lines it has, after all of `lines` and a flush.
    fn groups(joint: &Joint, lines: &[(&str, Mark)]) -> Vec<(String, u64, bool)> {
        let (mut grouper, mut out) = (Grouper::default(), Vec::new());
        let mut take = |group: Group<'_>| {
            let text = String::from_utf8_lossy(group.text).into_owned();
            out.push((text, group.lines, group.cut));
        };
        for (text, mark) in lines {
            grouper.push(format!("{text}\n").as_bytes(), *mark, (0, 0), joint, &mut take);
        }
        grouper.flush(joint, &mut take);
        out
    }

    fn group(text: &str, lines: u64) -> (String, u64, bool) {
        (text.to_owned(), lines, false)
    }

    #[test]
    fn lines_are_joined_by_their_marks() {
        use Mark::{Alone, First, Last, More};
        let all = joint(" | ", 1000, 1000);
        let lines = [("a", More), ("b", More), ("c", First), ("", More), ("d", Last), ("e", Last)];
        let expected = [group("a | b\n", 2), group("c |  | d\n", 3), group("e\n", 1)];
        assert_eq!(groups(&all, &lines), expected);
        let lines = [("a", First), ("b", Alone), ("c", More)];
        assert_eq!(groups(&all, &lines), [group("a\n", 1), group("b\n", 1), group("c\n", 1)]);
        assert_eq!(groups(&all, &[("", First), ("", More)]), [group(" | \n", 2)]);
    }

    #[test]
    fn a_doubtful_line_belongs_to_what_confirms_it() {
        use Mark::{Alone, First, Last, More, Perhaps};
        let all = joint("\n", 1000, 1000);
        let lines = [("a", First), ("", Perhaps), ("b", More), ("c", Perhaps), ("d", Alone)];
        let expected = [group("a\n\nb\n", 3), group("c\n", 1), group("d\n", 1)];
        assert_eq!(groups(&all, &lines), expected);
        let lines = [("x", Perhaps), ("a", First), ("", Perhaps), ("c", Perhaps), ("e", Last)];
        assert_eq!(groups(&all, &lines), [group("x\n", 1), group("a\n\nc\ne\n", 4)]);
        let doubtful = [("a", First); 1].into_iter().chain([("b", Perhaps); 5]);
        let lines: Vec<(&str, Mark)> = doubtful.chain([("c", More)]).collect();
        let expected = [["a"; 1].as_slice(), &["b"; 5], &["c"; 1]].concat();
        let got = groups(&all, &lines);
        assert_eq!(got, expected.iter().map(|t| group(&format!("{t}\n"), 1)).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_beyond_its_limits_goes_out_in_parts() {
        use Mark::{First, More};
        let lines =
            [("aaa", First), ("bb", More), ("ccc", More), ("dddddddddddd", More), ("e", More)];
        let cut = |text: &str, lines| (text.to_owned(), lines, true);
        let expected = [cut("aaa\nbb\n", 2), cut("ccc\n", 1), cut("dddddddddddd\n", 1)];
        let got = groups(&joint("\n", 8, 100), &lines);
        assert_eq!(got, [&expected[..], &[group("e\n", 1)]].concat());
        let got = groups(&joint("\n", 1000, 2), &lines);
        let expected = [cut("aaa\nbb\n", 2), cut("ccc\ndddddddddddd\n", 2), group("e\n", 1)];
        assert_eq!(got, expected);
    }

    #[test]
    fn a_group_has_the_time_of_its_first_line_and_ages_from_then() {
        let all = joint("\n", 1000, 1000);
        let (mut grouper, mut times) = (Grouper::default(), Vec::new());
        let mut take = |group: Group<'_>| times.push(group.at);
        grouper.push(b"a\n", Mark::First, (7, 100), &all, &mut take);
        grouper.push(b"b\n", Mark::More, (8, 104), &all, &mut take);
        assert!(!grouper.is_due(105, 5) && grouper.is_due(106, 5));
        grouper.push(b"c\n", Mark::Perhaps, (9, 105), &all, &mut take);
        grouper.flush(&all, &mut take);
        assert!(grouper.is_empty() && !grouper.is_due(1000, 5));
        assert_eq!(times, [7, 9]);
    }

    #[test]
    fn memory_is_lent_and_given_back() {
        let all = joint("\n", 1000, 1000);
        let mut grouper = Grouper::default();
        assert!(grouper.give_back().is_none());
        grouper.lend(Vec::with_capacity(100));
        grouper.push(b"a\n", Mark::First, (0, 0), &all, &mut |_| ());
        assert!(grouper.give_back().is_none());
        grouper.flush(&all, &mut |_| ());
        assert_eq!(
            grouper.give_back().map(|memory| (memory.capacity(), memory.len())),
            Some((100, 0))
        );
    }

    fn mark() -> impl Strategy<Value = Mark> {
        use Mark::{Alone, First, Last, More, Perhaps};
        prop::sample::select(vec![First, More, More, More, Perhaps, Perhaps, Last, Alone])
    }

    proptest! {
        #[test]
        fn as_lists_of_lines(
            lines in prop::collection::vec(("[ab|]{0,6}", mark()), 0..60),
            separator in "[|~\n]{1,3}",
            bytes_max in prop_oneof![0usize..40, Just(10_000)],
            lines_max in prop_oneof![0u64..6, Just(1000)],
            flushes in prop::collection::vec(0usize..60, 0..4),
        ) {
            let lines: Vec<naive::Line> =
                lines.into_iter().map(|(text, mark)| (text.into_bytes(), mark)).collect();
            naive::compare(&lines, &joint(&separator, bytes_max, lines_max), &flushes);
        }
    }
}
