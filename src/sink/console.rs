//! `console`: every line on the terminal behind the name of its container, coloured by container.
//!
//! Pure but for two looks at the process when the route is built: whether standard output is a
//! terminal, and `NO_COLOR`. Like `docker logs`, it passes a line's own control characters on as
//! they are: a container can colour, move or clear the terminal that shows it. Whoever does not
//! trust a container should look at it through a pager or a file.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::palette::Palette;
use super::{Built, Prefix, Reader, Sink, SinkSpec, field, records, target};
use crate::buffer::Outbox;
use crate::config::Settings;
use crate::docker::Source;
use crate::docker::inspect::Container;
use crate::lines::blocks::Blocks;
use crate::route::RouteSpec;
use crate::stamp::Stamp;
use crate::transport::Delivery;

/// `console://`, with the option `colors=on|off|auto`. The route there is when none was given.
pub const SPEC: SinkSpec = SinkSpec { scheme: "console", build };

/// Names are padded to the longest so far, but not beyond this many characters.
const WIDTH_MAX: usize = 32;
const SPACES: [u8; WIDTH_MAX] = [b' '; WIDTH_MAX];

/// Foreground colours (ECMA-48 SGR), all of one length. No red, which looks like an error, and
/// neither black nor white, one of which is the background.
const COLORS: [&str; 10] = [
    "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[92m",
    "\x1b[95m", "\x1b[94m",
];
const COLOR_LEN: usize = COLORS[0].len();
const RESET: &str = "\x1b[0m";

struct Console {
    /// Whether to write colours, and which container has which.
    palette: Option<Mutex<Palette>>,
    /// Characters of the longest name so far, at most [`WIDTH_MAX`].
    width: AtomicUsize,
}

/// `before_time` is the colour and the name, `after_time` what follows the padding; a console line
/// has no time. The padding is left to each block, since a longer name may have come since.
impl Sink for Console {
    fn prefix(&self, container: &Container, _source: Source) -> Prefix {
        let name = field::printable(&container.name);
        self.width.fetch_max(name.chars().count().min(WIDTH_MAX), Relaxed);
        let (color, reset) = match &self.palette {
            Some(palette) => {
                let mut palette = palette.lock().unwrap_or_else(PoisonError::into_inner);
                (COLORS[palette.number(&container.id) % COLORS.len()], RESET)
            }
            None => ("", ""),
        };
        Prefix {
            before_time: format!("{color}{name}").into_bytes().into(),
            after_time: format!("  | {reset}").into_bytes().into(),
            ..Prefix::default()
        }
    }

    fn reader(&self) -> Reader {
        Reader::People
    }

    fn encode(&self, prefix: &Prefix, _stamp: &Stamp, lines: Blocks<'_>, out: &mut Outbox) -> u64 {
        let color_len = if self.palette.is_some() { COLOR_LEN } else { 0 };
        let characters = prefix.before_time.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        let missing = (self.width.load(Relaxed) + color_len).saturating_sub(characters);
        let padding = SPACES.get(..missing).unwrap_or(&SPACES);
        let head = [&prefix.before_time, padding, &prefix.after_time];
        if lines.is_joined() {
            return lines.lines().map(|text| put_joined(head, text, out)).sum();
        }
        records::plain(head, lines, out)
    }
}

/// Appends one record of as many lines as `text` has, each behind the name. Returns how many
/// records that is.
fn put_joined(head: [&[u8]; 3], text: &[u8], out: &mut Outbox) -> u64 {
    let lines = || text.split(|&byte| byte == b'\n');
    let each = head.iter().map(|part| part.len()).sum::<usize>() + 1;
    let record = out.begin(lines().map(|line| each + line.len()).sum());
    for line in lines() {
        head.iter().for_each(|part| record.extend_from_slice(part));
        record.extend_from_slice(line);
        record.push(b'\n');
    }
    out.finish();
    1
}

fn build(spec: &RouteSpec, _settings: &Settings) -> Result<Built, String> {
    if let Some(transport) = &spec.transport {
        return Err(target::bad_transport(spec, transport, "write console:// alone"));
    }
    if !spec.address.is_empty() {
        return Err(format!(
            "bad address: {:?} in route {}; write console:// alone",
            spec.address, spec.id
        ));
    }
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let auto = std::io::stdout().is_terminal() && !no_color;
    let sink = Console {
        palette: colors_wanted(spec, auto)?.then(Mutex::default),
        width: AtomicUsize::new(0),
    };
    Ok(Built::new(sink, Delivery::Terminal))
}

/// Reads the option `colors`; `auto` says what to do where it does not.
fn colors_wanted(spec: &RouteSpec, auto: bool) -> Result<bool, String> {
    match spec.option("colors") {
        None | Some("" | "auto") => Ok(auto),
        Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => {
            Err(format!("bad colors: {other:?} in route {}; use on, off or auto", spec.id))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::buffer::Budget;
    use crate::sink::testing;

    fn console(color: bool) -> Console {
        Console { palette: color.then(Mutex::default), width: AtomicUsize::new(0) }
    }

    fn container(name: &str) -> Container {
        Container { id: format!("id of {name}"), name: name.to_owned(), ..Container::default() }
    }

    fn line(sink: &Console, prefix: &Prefix) -> String {
        String::from_utf8(testing::encode(sink, prefix, b"x\n").concat()).unwrap()
    }

    #[test]
    fn names_are_padded_to_the_longest_so_far() {
        let sink = console(false);
        let web = sink.prefix(&container("web"), Source::Stdout);
        assert_eq!(line(&sink, &web), "web  | x\n");
        let unicode = sink.prefix(&container("déjà_vu"), Source::Stderr);
        assert_eq!(line(&sink, &web), "web      | x\n");
        assert_eq!(line(&sink, &unicode), "déjà_vu  | x\n");
    }

    #[test]
    fn each_line_of_a_joined_one_is_behind_the_name() {
        let sink = console(false);
        let prefix = sink.prefix(&container("web"), Source::Stderr);
        let mut out = Outbox::new(Arc::new(Budget::new(1 << 20, 1)), usize::MAX);
        let joined = Blocks::joined(b"a\n\tb\n");
        assert_eq!(sink.encode(&prefix, &Stamp::new(UNIX_EPOCH), joined, &mut out), 1);
        assert_eq!(testing::drain(&mut out).0, [b"web  | a\nweb  | \tb\n"]);
    }

    #[test]
    fn a_long_name_is_whole_and_widens_the_others_only_so_far() {
        let sink = console(true);
        let name = "n".repeat(50);
        let long = sink.prefix(&container(&name), Source::Stdout);
        let short = sink.prefix(&container("a"), Source::Stdout);
        assert_eq!(line(&sink, &long), format!("\x1b[36m{name}  | \x1b[0mx\n"));
        assert_eq!(line(&sink, &short), format!("\x1b[33ma{:31}  | \x1b[0mx\n", ""));
    }

    #[test]
    fn a_container_keeps_its_color_and_colors_come_around() {
        let sink = console(true);
        let first = sink.prefix(&container("c0"), Source::Stdout);
        let mut renamed = container("c0");
        renamed.name = "new name".to_owned();
        assert!(sink.prefix(&renamed, Source::Stderr).before_time.starts_with(b"\x1b[36m"));
        for n in 1..COLORS.len() {
            let other = sink.prefix(&container(&format!("c{n}")), Source::Stdout);
            assert_ne!(first.before_time[..COLOR_LEN], other.before_time[..COLOR_LEN]);
        }
        let again = sink.prefix(&container("another"), Source::Stdout);
        assert_eq!(first.before_time[..COLOR_LEN], again.before_time[..COLOR_LEN]);
        assert!(COLORS.iter().all(|color| color.len() == COLOR_LEN));
    }

    #[test]
    fn a_name_cannot_reach_the_terminal_but_a_line_does() {
        let sink = console(false);
        let prefix = sink.prefix(&container("a\x1b[2J\nb"), Source::Stdout);
        let text = testing::encode(&sink, &prefix, b"\x1b[1m\xff\r\n").concat();
        assert_eq!(text, b"a_[2J_b  | \x1b[1m\xff\r\n");
    }

    #[test]
    fn the_option_colors() {
        let wanted = |value: &str, auto| {
            colors_wanted(&testing::route("console", None, "", &[("colors", value)]), auto)
        };
        for auto in [false, true] {
            assert_eq!(wanted("on", auto), Ok(true));
            assert_eq!(wanted("off", auto), Ok(false));
            assert_eq!(wanted("auto", auto), Ok(auto));
            assert_eq!(wanted("", auto), Ok(auto));
        }
        assert_eq!(
            wanted("yes", true),
            Err("bad colors: \"yes\" in route 0; use on, off or auto".to_owned())
        );
    }

    #[test]
    fn it_has_no_transport_and_no_address() {
        let built = |transport, address| {
            let spec = testing::route("console", transport, address, &[]);
            build(&spec, &Settings::default()).map(|built| built.delivery)
        };
        assert!(matches!(built(None, ""), Ok(Delivery::Terminal)));
        let error = built(Some("tcp"), "").err().unwrap();
        assert_eq!(error, "bad transport: \"tcp\" in route 0; write console:// alone");
        assert!(built(None, "host:1").err().unwrap().contains("console:// alone"));
    }
}
