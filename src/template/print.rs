//! Go's `fmt.Sprintf`, `Sprint` and `Sprintln` for the values of templates.
//!
//! Pure. What a text may grow to is bounded: widths as in Go, the whole by [`OUTPUT_MAX`].
//! Differences: a pointer inside a struct shows what it points at, not its address, and the
//! hexadecimal and binary forms of floats and their `#` flag are not there.

use super::OUTPUT_MAX;
use super::moment::{month_name, weekday_name};
use super::text::{self, can_backquote, quote, quote_char};
use super::value::{List, Map, Object, Struct, Value};

/// The text would be longer than [`OUTPUT_MAX`].
#[derive(Debug)]
pub(super) struct Overflow;

/// Go refuses widths and precisions beyond this.
const WIDTH_MAX: i64 = 1_000_000;

/// `fmt.Sprint`: a space between operands neither of which is a string.
pub(super) fn sprint(args: &[Value<'_>]) -> Result<Vec<u8>, Overflow> {
    let mut printer = Printer::default();
    let mut after_text = true;
    for (at, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Value::Text(_) | Value::Port(_));
        if at > 0 && !is_text && !after_text {
            printer.push(b" ");
        }
        printer.arg(arg, 'v');
        after_text = is_text;
    }
    printer.finish()
}

/// `fmt.Sprintln`: a space between all operands, and a newline.
pub(super) fn sprintln(args: &[Value<'_>]) -> Result<Vec<u8>, Overflow> {
    let mut printer = Printer::default();
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            printer.push(b" ");
        }
        printer.arg(arg, 'v');
    }
    printer.push(b"\n");
    printer.finish()
}

/// `fmt.Sprintf`.
pub(super) fn sprintf(format: &[u8], args: &[Value<'_>]) -> Result<Vec<u8>, Overflow> {
    let mut printer = Printer::default();
    Formatter { format, at: 0, args, next: 0, reordered: false, good_index: true }
        .run(&mut printer);
    printer.finish()
}

/// Appends a value as an action prints it.
pub(super) fn value(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), Overflow> {
    match value {
        Value::Text(text) => out.extend_from_slice(text),
        Value::None | Value::Nil => out.extend_from_slice(b"<no value>"),
        other => out.extend_from_slice(&sprint(std::slice::from_ref(other))?),
    }
    Ok(())
}

/// The flags, width and precision of a verb.
#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%+v` and `%#v`: their flags are kept apart from those of what is inside.
    plus_v: bool,
    sharp_v: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Walks a format; Go's `doPrintf`.
struct Formatter<'f, 'v> {
    format: &'f [u8],
    at: usize,
    args: &'f [Value<'v>],
    next: usize,
    reordered: bool,
    good_index: bool,
}

impl Formatter<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn run(&mut self, printer: &mut Printer) {
        self.reordered = false;
        while self.at < self.format.len() && !printer.overflow {
            let rest = &self.format[self.at..];
            let literal = memchr::memchr(b'%', rest).unwrap_or(rest.len());
            printer.push(&rest[..literal]);
            self.at += literal;
            if self.at < self.format.len() {
                self.at += 1;
                self.directive(printer);
            }
        }
        if !self.reordered && self.next < self.args.len() {
            self.extra(printer);
        }
    }

    fn extra(&self, printer: &mut Printer) {
        printer.flags = Flags::default();
        printer.push(b"%!(EXTRA ");
        for (at, arg) in self.args[self.next..].iter().enumerate() {
            if at > 0 {
                printer.push(b", ");
            }
            printer.typed(arg);
        }
        printer.push(b")");
    }

    fn directive(&mut self, printer: &mut Printer) {
        self.good_index = true;
        printer.flags = self.flags();
        let mut after_index = self.argument_number();
        if self.peek() == Some(b'*') {
            self.at += 1;
            match self.take_integer() {
                Some(width) => {
                    printer.flags.width = Some(width.unsigned_abs() as usize);
                    if width < 0 {
                        (printer.flags.minus, printer.flags.zero) = (true, false);
                    }
                }
                None => printer.push(b"%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            printer.flags.width = self.number();
            if after_index && printer.flags.width.is_some() {
                self.good_index = false;
            }
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if after_index {
                self.good_index = false;
            }
            after_index = self.argument_number();
            if self.peek() == Some(b'*') {
                self.at += 1;
                match self.take_integer().map(usize::try_from) {
                    Some(Ok(precision)) => printer.flags.precision = Some(precision),
                    // A negative precision is none.
                    Some(Err(_)) => printer.flags.precision = None,
                    None => printer.push(b"%!(BADPREC)"),
                }
                after_index = false;
            } else {
                printer.flags.precision = Some(self.number().unwrap_or_default());
            }
        }
        if !after_index {
            self.argument_number();
        }
        self.verb(printer);
    }

    fn flags(&mut self) -> Flags {
        let mut flags = Flags::default();
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = !flags.minus,
                b'+' => flags.plus = true,
                b'-' => (flags.minus, flags.zero) = (true, false),
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        flags
    }

    /// Decimal digits; `None` if there are none, or too many.
    fn number(&mut self) -> Option<usize> {
        let begin = self.at;
        let mut value = 0_i64;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            if value > WIDTH_MAX {
                // Go takes what is behind it for the verb.
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        (self.at > begin && value <= WIDTH_MAX).then_some(value as usize)
    }

    /// `[3]`: which argument is next. Returns whether there was one.
    fn argument_number(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let Some(end) = memchr::memchr(b']', rest) else {
            self.good_index = false;
            self.at += 1;
            return false;
        };
        let digits = std::str::from_utf8(&rest[1..end]).unwrap_or_default();
        let valid = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = valid.then(|| digits.parse::<usize>().ok()).flatten();
        self.at += end + 1;
        match number {
            Some(number) if (1..=self.args.len()).contains(&number) => {
                self.next = number - 1;
                true
            }
            _ => {
                self.good_index = false;
                number.is_some()
            }
        }
    }

    /// The next argument as a width or precision; `None` if it is none.
    fn take_integer(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        let value = match arg {
            Value::Int(value, _) => *value,
            Value::Uint(value, _) => i64::try_from(*value).ok()?,
            _ => return None,
        };
        (-WIDTH_MAX..=WIDTH_MAX).contains(&value).then_some(value)
    }

    fn verb(&mut self, printer: &mut Printer) {
        let Some(rest) = self.format.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return printer.push(b"%!(NOVERB)");
        };
        let (verb, len) = text::decode(rest);
        self.at += len;
        let verb = verb.unwrap_or('\u{fffd}');
        match (verb, self.args.get(self.next)) {
            ('%', _) => printer.push(b"%"),
            _ if !self.good_index => printer.complaint(verb, b"(BADINDEX)"),
            (_, None) => printer.complaint(verb, b"(MISSING)"),
            (_, Some(arg)) => {
                self.next += 1;
                let flags = &mut printer.flags;
                if verb == 'v' {
                    (flags.sharp_v, flags.sharp) = (flags.sharp, false);
                    (flags.plus_v, flags.plus) = (flags.plus, false);
                }
                printer.arg(arg, verb);
            }
        }
    }
}

/// Writes values by verb; Go's `pp`.
#[derive(Default)]
struct Printer {
    out: Vec<u8>,
    flags: Flags,
    overflow: bool,
    /// A complaint is being written: no methods are called.
    complaining: bool,
}

impl Printer {
    fn push(&mut self, bytes: &[u8]) {
        if self.out.len() + bytes.len() > OUTPUT_MAX {
            self.overflow = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    fn finish(self) -> Result<Vec<u8>, Overflow> {
        if self.overflow { Err(Overflow) } else { Ok(self.out) }
    }

    fn complaint(&mut self, verb: char, what: &[u8]) {
        self.push(b"%!");
        self.push(verb.encode_utf8(&mut [0; 4]).as_bytes());
        self.push(what);
    }

    fn bad_verb(&mut self, value: &Value<'_>, verb: char) {
        self.complaining = true;
        self.complaint(verb, b"(");
        self.typed(value);
        self.push(b")");
        self.complaining = false;
    }

    /// A value behind its type, as complaints show it.
    fn typed(&mut self, value: &Value<'_>) {
        if value.is_nothing() {
            self.push(b"<nil>");
        } else {
            self.push(value.type_name().as_bytes());
            self.push(b"=");
            self.arg(value, 'v');
        }
    }

    /// `text` within the width: on its right, or with `-` on its left. Go counts characters.
    fn pad(&mut self, text: &[u8]) {
        let width = self.flags.width.unwrap_or_default();
        let missing = width.saturating_sub(text::chars(text).count());
        let zero = self.flags.zero && !self.flags.minus;
        let filling = vec![if zero { b'0' } else { b' ' }; missing];
        if self.flags.minus {
            self.push(text);
            self.push(&filling);
        } else {
            self.push(&filling);
            self.push(text);
        }
    }

    fn arg(&mut self, value: &Value<'_>, verb: char) {
        if self.overflow {
            return;
        }
        if value.is_nothing() {
            return match verb {
                'T' | 'v' => self.pad(b"<nil>"),
                verb => self.bad_verb(value, verb),
            };
        }
        if verb == 'T' {
            return self.text(value, value.type_name().as_bytes(), 's');
        }
        if !self.complaining
            && !self.flags.sharp_v
            && "vsxXq".contains(verb)
            && let Some(shown) = own_text(value)
        {
            return self.text(value, &shown, verb);
        }
        match value {
            Value::Bool(truth) => match verb {
                't' | 'v' => self.pad(if *truth { b"true" } else { b"false" }),
                verb => self.bad_verb(value, verb),
            },
            Value::Int(number, _) => {
                self.integer(value, number.unsigned_abs(), *number < 0, verb);
            }
            Value::Uint(number, _) => self.integer(value, *number, false, verb),
            Value::Float(number) => self.float(value, *number, verb),
            Value::Text(text) => self.text(value, text, verb),
            Value::Port(text) => self.text(value, text.as_bytes(), verb),
            Value::List(list) => self.list(list, verb),
            Value::Map(map) => self.map(map, verb),
            Value::Struct(fields) => self.fields(fields, verb),
            Value::NilPointer(_) => self.pad(b"<nil>"),
            Value::Time(time) => self.text(value, &time.string(), verb),
            Value::Object(object) => self.object(*object),
            Value::None | Value::Nil | Value::Part(_) | Value::LineTime => {}
        }
    }

    fn text(&mut self, value: &Value<'_>, text: &[u8], verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(text),
            'v' | 's' => {
                let text = self.cut(text);
                self.pad(text);
            }
            'x' => self.hex(text, false),
            'X' => self.hex(text, true),
            'q' => self.quoted(text),
            verb => self.bad_verb(value, verb),
        }
    }

    /// As many characters as the precision allows.
    fn cut<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let Some(precision) = self.flags.precision else { return text };
        text::chars(text).nth(precision).map_or(text, |(at, ..)| &text[..at])
    }

    fn quoted(&mut self, text: &[u8]) {
        let text = self.cut(text);
        if self.flags.sharp && can_backquote(text) {
            let raw = [b"`", text, b"`"].concat();
            return self.pad(&raw);
        }
        let quoted = quote(text, self.flags.plus);
        self.pad(quoted.as_bytes());
    }

    fn hex(&mut self, text: &[u8], upper: bool) {
        let bytes = &text[..self.flags.precision.unwrap_or(text.len()).min(text.len())];
        let mut out = Vec::with_capacity(2 * bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            let prefix: &[u8] = if upper { b"0X" } else { b"0x" };
            if self.flags.space && at > 0 {
                out.push(b' ');
            }
            if self.flags.sharp && (at == 0 || self.flags.space) {
                out.extend_from_slice(prefix);
            }
            let digits = if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
            out.extend_from_slice(digits.as_bytes());
        }
        self.pad(&out);
    }

    fn integer(&mut self, value: &Value<'_>, number: u64, negative: bool, verb: char) {
        let character = || (!negative).then(|| u32::try_from(number).ok()).flatten();
        let character = || character().and_then(char::from_u32).unwrap_or('\u{fffd}');
        match verb {
            'v' | 'd' => self.digits(negative, &number.to_string(), ""),
            'b' => self.digits(negative, &format!("{number:b}"), "0b"),
            'o' => self.digits(negative, &format!("{number:o}"), "0"),
            'O' => {
                self.flags.sharp = true;
                self.digits(negative, &format!("{number:o}"), "0o");
            }
            'x' => self.digits(negative, &format!("{number:x}"), "0x"),
            'X' => self.digits(negative, &format!("{number:X}"), "0X"),
            'c' => self.pad(character().encode_utf8(&mut [0; 4]).as_bytes()),
            'q' => {
                let quoted = quote_char(character(), self.flags.plus);
                self.pad(quoted.as_bytes());
            }
            'U' => self.unicode(number, negative),
            verb => self.bad_verb(value, verb),
        }
    }

    fn unicode(&mut self, number: u64, negative: bool) {
        let digits = self.flags.precision.unwrap_or_default().max(4);
        let mut shown = format!("{}U+{number:0digits$X}", if negative { "-" } else { "" });
        let c = u32::try_from(number).ok().and_then(char::from_u32);
        if let Some(c) = c.filter(|c| self.flags.sharp && text::is_print(*c)) {
            shown.push_str(&format!(" '{c}'"));
        }
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(shown.as_bytes());
        self.flags.zero = zero;
    }

    /// Digits with their sign, prefix and leading zeros; Go's `fmtInteger`.
    fn digits(&mut self, negative: bool, digits: &str, prefix: &str) {
        let flags = self.flags;
        if flags.precision == Some(0) && digits == "0" {
            return self.blank();
        }
        let signed = negative || flags.plus || flags.space;
        // A width filled with zeros is a precision that leaves room for the sign.
        let by_width = flags.width.filter(|_| flags.zero && !flags.minus);
        let by_width = by_width.map(|width| width.saturating_sub(usize::from(signed)));
        let wanted = flags.precision.or(by_width).unwrap_or_default();
        let mut shown = String::new();
        if negative {
            shown.push('-');
        } else if flags.plus {
            shown.push('+');
        } else if flags.space {
            shown.push(' ');
        }
        let octal = prefix == "0" && (digits.starts_with('0') || digits.len() < wanted);
        if flags.sharp && !octal {
            shown.push_str(prefix);
        }
        shown.extend(std::iter::repeat_n('0', wanted.saturating_sub(digits.len())));
        shown.push_str(digits);
        self.flags.zero = false;
        self.pad(shown.as_bytes());
        self.flags.zero = flags.zero;
    }

    /// Nothing but the width.
    fn blank(&mut self) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(b"");
        self.flags.zero = zero;
    }

    fn float(&mut self, value: &Value<'_>, number: f64, verb: char) {
        let precision = self.flags.precision;
        let text = match verb {
            'v' | 'g' | 'G' => general(number, precision),
            'e' | 'E' => exponent(number, precision.unwrap_or(6)),
            'f' | 'F' => format!("{number:.*}", precision.unwrap_or(6)),
            verb => return self.bad_verb(value, verb),
        };
        let text = if verb == 'G' || verb == 'E' { text.to_uppercase() } else { text };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, &*text),
        };
        let flags = self.flags;
        let sign = match () {
            () if negative => "-",
            () if flags.plus || flags.plus_v => "+",
            () if flags.space => " ",
            () => "",
        };
        let mut shown = sign.to_owned();
        // Zeros go between the sign and the digits.
        if let Some(width) = flags.width.filter(|_| flags.zero && !flags.minus) {
            let zeros = width.saturating_sub(sign.len() + digits.len());
            shown.extend(std::iter::repeat_n('0', zeros));
        }
        shown.push_str(digits);
        self.flags.zero = false;
        self.pad(shown.as_bytes());
        self.flags.zero = flags.zero;
    }

    fn list(&mut self, list: &List<'_>, verb: char) {
        self.push(b"[");
        for (at, value) in list.iter().enumerate() {
            if at > 0 {
                self.push(b" ");
            }
            self.inner(&value, verb);
        }
        self.push(b"]");
    }

    fn map(&mut self, map: &Map<'_>, verb: char) {
        self.push(b"map[");
        for (at, (key, value)) in map.iter().enumerate() {
            if at > 0 {
                self.push(b" ");
            }
            self.inner(&map.key(key), verb);
            self.push(b":");
            self.inner(&value, verb);
        }
        self.push(b"]");
    }

    fn fields(&mut self, fields: &Struct<'_>, verb: char) {
        self.push(b"{");
        for (at, field) in fields.ty.fields.iter().enumerate() {
            if at > 0 {
                self.push(b" ");
            }
            if self.flags.plus_v {
                self.push(field.name.as_bytes());
                self.push(b":");
            }
            self.inner(&fields.field(field), verb);
        }
        self.push(b"}");
    }

    fn object(&mut self, object: Object) {
        self.push(object.type_name().as_bytes());
    }

    /// A value inside another: nil is shown whatever the verb.
    fn inner(&mut self, value: &Value<'_>, verb: char) {
        if self.overflow {
            return;
        }
        if value.is_nothing() {
            return self.push(b"<nil>");
        }
        self.arg(value, verb);
    }
}

/// The text of types that have a `String` method.
fn own_text(value: &Value<'_>) -> Option<Vec<u8>> {
    match value {
        Value::Time(time) => Some(time.string()),
        Value::Int(month, "time.Month") => Some(month_name(*month).as_bytes().to_vec()),
        Value::Int(day, "time.Weekday") => Some(weekday_name(*day).as_bytes().to_vec()),
        Value::Int(nanos, "time.Duration") => Some(duration(*nanos).into_bytes()),
        _ => None,
    }
}

/// Go's `time.Duration.String`: `1m30s`.
fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let fraction = |unit: u64| {
        let width = unit.ilog10() as usize;
        let text = format!("{}.{:0width$}", total / unit, total % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let shown = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000)),
        _ => {
            let seconds = total / 1_000_000_000;
            let hours =
                if seconds >= 3600 { format!("{}h", seconds / 3600) } else { String::new() };
            let minutes =
                if seconds >= 60 { format!("{}m", seconds / 60 % 60) } else { String::new() };
            let rest = format!("{}.{:09}", seconds % 60, total % 1_000_000_000);
            let rest = rest.trim_end_matches('0').trim_end_matches('.');
            format!("{hours}{minutes}{rest}s")
        }
    };
    format!("{sign}{shown}")
}

/// Infinities and the like, as Go shows them.
fn not_finite(number: f64) -> Option<String> {
    match number {
        number if number.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("+Inf".to_owned()),
        f64::NEG_INFINITY => Some("-Inf".to_owned()),
        _ => None,
    }
}

/// Go's `%e`: an exponent of two digits at least.
pub(super) fn exponent(number: f64, precision: usize) -> String {
    not_finite(number).unwrap_or_else(|| go_exponent(&format!("{number:.precision$e}")))
}

/// Rust's `1.5e-7` as Go's `1.5e-07`.
fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Go's `%g`, of as many digits as are needed, or as `precision` says at most.
fn general(number: f64, precision: Option<usize>) -> String {
    if let Some(text) = not_finite(number) {
        return text;
    }
    let scientific = match precision {
        None => format!("{number:e}"),
        Some(precision) => {
            let text = format!("{number:.*e}", precision.max(1) - 1);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let mantissa = match mantissa.contains('.') {
                true => mantissa.trim_end_matches('0').trim_end_matches('.'),
                false => mantissa,
            };
            format!("{mantissa}e{exponent}")
        }
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count() as i64;
    let limit = match precision.map(|precision| precision.max(1) as i64) {
        None => SHORTEST_LIMIT,
        Some(precision) if precision > digits && digits > power => digits,
        Some(precision) => precision,
    };
    if power < -4 || power >= limit {
        return go_exponent(&scientific);
    }
    let places = (digits - power - 1).max(0) as usize;
    format!("{number:.places$}")
}

/// From which power of ten on the shortest form has an exponent.
const SHORTEST_LIMIT: i64 = 6;
