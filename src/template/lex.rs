//! Template text into items, by the rules of Go's `text/template/parse` lexer.
//!
//! Pure. A mistake is an item too, the last one: the parser may find a better reason first, as
//! Go's does, since it reads the items before it.

use super::text::quote;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A mistake; the item's text says which.
    Error,
    Bool,
    /// A printable character that stands for itself, such as the comma.
    Char,
    CharConstant,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Dot,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    /// Whether it is shown in angle brackets, as Go shows keywords.
    fn is_keyword(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Dot | Nil
                | Block
                | Break
                | Continue
                | Define
                | Else
                | End
                | If
                | Range
                | Template
                | With
        )
    }
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub kind: Kind,
    /// Where it begins, in bytes.
    pub at: usize,
    /// Its line, counted from 1.
    pub line: usize,
    pub text: String,
}

impl Item {
    /// As Go shows it in an error.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            kind if kind.is_keyword() => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                let head: String = self.text.chars().take(10).collect();
                format!("{}...", quote(head.as_bytes(), false))
            }
            _ => quote(self.text.as_bytes(), false),
        }
    }
}

/// How actions are written: `{{.Data}}`, or `%{.Data}` for files whose readers expand `{{ }}`
/// themselves.
struct Delims {
    left: &'static str,
    right: &'static str,
}

const GO: Delims = Delims { left: "{{", right: "}}" };
const BRACE_FREE: Delims = Delims { left: "%{", right: "}" };

const LEFT_COMMENT: &str = "/*";
const RIGHT_COMMENT: &str = "*/";
/// A minus and the space beside it.
const TRIM: usize = 2;

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

/// The items of `input`, the last of which is [`Kind::Eof`] or [`Kind::Error`].
///
/// A template that has `{{` anywhere is Go's to the letter; in others `%{` begins an action.
pub(super) fn items(input: &str) -> Vec<Item> {
    let delims = if input.contains(GO.left) { GO } else { BRACE_FREE };
    let mut lexer =
        Lexer { input, delims, start: 0, pos: 0, line: 1, parens: 0, items: Vec::new() };
    let mut next = Some(State::Text);
    while let Some(state) = next {
        next = match state {
            State::Text => lexer.text(),
            State::Action => lexer.action(),
        };
    }
    lexer.items
}

enum State {
    Text,
    Action,
}

struct Lexer<'a> {
    input: &'a str,
    delims: Delims,
    start: usize,
    pos: usize,
    /// The line of `start`.
    line: usize,
    parens: usize,
    items: Vec<Item>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn token(&self) -> &'a str {
        &self.input[self.start..self.pos]
    }

    fn ignore(&mut self) {
        self.line += self.token().matches('\n').count();
        self.start = self.pos;
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.token().to_owned();
        self.items.push(Item { kind, at: self.start, line: self.line, text });
        self.ignore();
    }

    fn fail(&mut self, text: impl Into<String>) -> Option<State> {
        let (at, line) = (self.start, self.line);
        self.items.push(Item { kind: Kind::Error, at, line, text: text.into() });
        None
    }

    /// Whether the right delimiter is next, and whether a trim marker is before it.
    fn at_right_delim(&self) -> (bool, bool) {
        let rest = self.rest();
        let trimmed = has_right_trim(rest) && rest[TRIM..].starts_with(self.delims.right);
        (trimmed || rest.starts_with(self.delims.right), trimmed)
    }

    fn text(&mut self) -> Option<State> {
        let Some(found) = self.rest().find(self.delims.left) else {
            self.pos = self.input.len();
            if self.pos > self.start {
                self.emit(Kind::Text);
            }
            self.emit(Kind::Eof);
            return None;
        };
        let delim = self.pos + found;
        let after = delim + self.delims.left.len();
        let trim = has_left_trim(&self.input[after..]);
        self.pos = delim;
        if trim {
            self.pos = self.start + self.token().trim_end_matches(is_space).len();
        }
        if self.pos > self.start {
            self.emit(Kind::Text);
        }
        self.pos = delim;
        self.ignore();
        let marker = if trim { TRIM } else { 0 };
        if self.input[after + marker..].starts_with(LEFT_COMMENT) {
            self.pos = after + marker;
            self.ignore();
            return self.comment();
        }
        self.pos = after;
        self.emit(Kind::LeftDelim);
        self.pos += marker;
        self.ignore();
        self.parens = 0;
        Some(State::Action)
    }

    fn comment(&mut self) -> Option<State> {
        self.pos += LEFT_COMMENT.len();
        let Some(end) = self.rest().find(RIGHT_COMMENT) else {
            return self.fail("unclosed comment");
        };
        self.pos += end + RIGHT_COMMENT.len();
        let (delim, trim) = self.at_right_delim();
        if !delim {
            return self.fail("comment ends before closing delimiter");
        }
        self.pass_right_delim(trim);
        Some(State::Text)
    }

    /// Goes behind the right delimiter, and behind the space that a trim marker takes.
    fn pass_right_delim(&mut self, trim: bool) {
        self.pos += if trim { TRIM } else { 0 } + self.delims.right.len();
        if trim {
            self.pos += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
        self.ignore();
    }

    fn right_delim(&mut self) -> Option<State> {
        let (_, trim) = self.at_right_delim();
        if trim {
            self.pos += TRIM;
            self.ignore();
        }
        self.pos += self.delims.right.len();
        self.emit(Kind::RightDelim);
        if trim {
            self.pos += self.rest().len() - self.rest().trim_start_matches(is_space).len();
            self.ignore();
        }
        Some(State::Text)
    }

    fn action(&mut self) -> Option<State> {
        if self.at_right_delim().0 {
            return match self.parens {
                0 => self.right_delim(),
                _ => self.fail("unclosed left paren"),
            };
        }
        let Some(c) = self.next() else { return self.fail("unclosed action") };
        match c {
            c if is_space(c) => return self.space(),
            '=' => self.emit(Kind::Assign),
            ':' if self.peek() == Some('=') => {
                self.next();
                self.emit(Kind::Declare);
            }
            ':' => return self.fail("expected :="),
            '|' => self.emit(Kind::Pipe),
            '"' => return self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => {
                return self.quoted('\'', Kind::CharConstant, "unterminated character constant");
            }
            '`' => return self.raw_quoted(),
            '$' => return self.field_or_variable(Kind::Variable),
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                return self.field_or_variable(Kind::Field);
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = self.start;
                return self.number();
            }
            c if is_word(c) => {
                self.pos = self.start;
                return self.identifier();
            }
            '(' => {
                self.emit(Kind::LeftParen);
                self.parens += 1;
            }
            ')' => {
                self.emit(Kind::RightParen);
                if self.parens == 0 {
                    return self.fail("unexpected right paren");
                }
                self.parens -= 1;
            }
            ' '..='~' => self.emit(Kind::Char),
            c => return self.fail(format!("unrecognized character in action: {}", shown(c))),
        }
        Some(State::Action)
    }

    fn space(&mut self) -> Option<State> {
        while self.peek().is_some_and(is_space) {
            self.next();
        }
        // All white space is one byte: the last of it may belong to a trim marker.
        let last = self.pos - 1;
        let marked = has_right_trim(&self.input[last..])
            && self.input[last + TRIM..].starts_with(self.delims.right);
        if marked {
            self.pos = last;
            if self.pos == self.start {
                return self.right_delim();
            }
        }
        self.emit(Kind::Space);
        Some(State::Action)
    }

    /// Whether what is next may follow a name.
    fn at_terminator(&self) -> bool {
        match self.peek() {
            None => true,
            Some(c) => {
                is_space(c)
                    || matches!(c, '.' | ',' | '|' | ':' | ')' | '(')
                    || self.rest().starts_with(self.delims.right)
            }
        }
    }

    fn skip_word(&mut self) {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
    }

    fn bad_character(&mut self) -> Option<State> {
        let c = self.peek().unwrap_or_default();
        self.fail(format!("bad character {}", shown(c)))
    }

    fn identifier(&mut self) -> Option<State> {
        self.skip_word();
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.emit(match self.token() {
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "nil" => Kind::Nil,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        });
        Some(State::Action)
    }

    fn field_or_variable(&mut self, kind: Kind) -> Option<State> {
        if self.at_terminator() {
            self.emit(if kind == Kind::Variable { kind } else { Kind::Dot });
            return Some(State::Action);
        }
        self.skip_word();
        if !self.at_terminator() {
            return self.bad_character();
        }
        self.emit(kind);
        Some(State::Action)
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Option<State> {
        loop {
            match self.next() {
                Some('\\') => match self.next() {
                    Some('\n') | None => return self.fail(unterminated),
                    Some(_) => {}
                },
                Some('\n') | None => return self.fail(unterminated),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Some(State::Action)
    }

    fn raw_quoted(&mut self) -> Option<State> {
        let Some(end) = self.rest().find('`') else {
            return self.fail("unterminated raw quoted string");
        };
        self.pos += end + 1;
        self.emit(Kind::RawString);
        Some(State::Action)
    }

    fn number(&mut self) -> Option<State> {
        if !self.scan_number() || matches!(self.peek(), Some('+' | '-')) {
            let bad = quote(self.token().as_bytes(), false);
            return self.fail(format!("bad number syntax: {bad}"));
        }
        self.emit(Kind::Number);
        Some(State::Action)
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek().is_some_and(|c| set.contains(c));
        self.pos += usize::from(found);
        found
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn scan_number(&mut self) -> bool {
        const DECIMAL: &str = "0123456789_";
        const HEX: &str = "0123456789abcdefABCDEF_";
        self.accept("+-");
        let mut digits = DECIMAL;
        if self.accept("0") {
            if self.accept("xX") {
                digits = HEX;
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if digits == DECIMAL && self.accept("eE") || digits == HEX && self.accept("pP") {
            self.accept("+-");
            self.accept_run(DECIMAL);
        }
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}

fn has_left_trim(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}

fn has_right_trim(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(is_space) && chars.next() == Some('-')
}

/// As Go's `%#U`: the code point, and the character if it can be shown.
fn shown(c: char) -> String {
    if super::text::is_print(c) {
        format!("U+{:04X} '{c}'", u32::from(c))
    } else {
        format!("U+{:04X}", u32::from(c))
    }
}
