//! Line filters with their shortcuts against the plain expressions, line by line.
//!
//! Input: what follows (bit 0: a `filter.match`, bit 1: a `filter.exclude`; bit 2: these are texts
//! as they stand rather than made of pieces), the expressions, each ended by a zero byte, and the
//! block, in which the low bytes stand for words.

#![no_main]

use std::cell::RefCell;
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use logchute::route::filter::naive::{PIECES, Twins, WORDS};

/// What expressions are made of beside [`PIECES`].
const MORE_PIECES: [&str; 20] = [
    "(", ")", "?", "+", "*", "error", "timeout", "panic", "fatal", "(?-i)", r"\d", "[0-9]{3}",
    r"\A", r"\z", "(?:", "é+", r"\pL", r"\x41", "K", "S",
];

/// What blocks are made of beside [`WORDS`], and bytes that stand for themselves.
const MORE_WORDS: [&[u8]; 10] =
    [b"error", b"ERROR", b"timeout", b"panic", b"fatal", b"1", b"123", b"A", b"\0", b"\n\n"];

/// The longest expression, in pieces; compiling is by far the slowest part.
const PIECES_MAX: usize = 8;
/// How many compiled pairs are kept: the fuzzer tries one with many blocks.
const KEPT: usize = 4096;

type Pair = (Option<String>, Option<String>);

thread_local! {
    static COMPILED: RefCell<HashMap<Pair, Option<Twins>>> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let Some((&what, mut rest)) = data.split_first() else { return };
    let matching = (what & 1 == 1).then(|| expression(what, &mut rest));
    let exclude = (what & 2 == 2).then(|| expression(what, &mut rest));
    let mut block = Vec::new();
    for &byte in rest {
        match WORDS.iter().chain(&MORE_WORDS).nth(usize::from(byte)) {
            Some(word) => block.extend_from_slice(word),
            None => block.push(byte),
        }
    }
    COMPILED.with_borrow_mut(|compiled| {
        if compiled.len() >= KEPT {
            compiled.clear();
        }
        let pair = (matching, exclude);
        let twins =
            compiled.entry(pair).or_insert_with_key(|(matching, exclude)| {
                match Twins::new(matching.as_deref(), exclude.as_deref()) {
                    Ok(twins) => Some(twins),
                    Err(error) => {
                        assert!(
                            error.starts_with("filter.") && error.lines().count() == 1,
                            "{error}"
                        );
                        None
                    }
                }
            });
        if let Some(twins) = twins {
            twins.compare(&block);
        }
    });
});

/// The next expression of the input; repetitions of repetitions would take long to compile.
fn expression(what: u8, rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|&byte| byte == 0);
    let (text, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after.get(1..).unwrap_or_default();
    if what & 4 == 4 {
        let text = text.get(..24).unwrap_or(text);
        return String::from_utf8_lossy(text).into_owned();
    }
    let pieces = PIECES.iter().chain(&MORE_PIECES).cycle();
    let piece = |&byte: &u8| pieces.clone().nth(usize::from(byte)).copied();
    text.iter().take(PIECES_MAX).filter_map(piece).collect()
}
