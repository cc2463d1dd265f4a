//! Names as parts of a record's head: without what would break it, and not longer than allowed.
//!
//! Pure; used when a container is attached, not per line.

use std::borrow::Cow;

/// `text` with `_` for each control character (C0, DEL, C1): a newline in a name would begin a
/// record of its own, and an escape would reach the terminal as one.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, char::is_control)
}

/// As [`printable`], white space replaced too: a field that ends at the next space.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c.is_control() || c.is_whitespace())
}

fn replaced(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.contains(&bad) { Cow::Owned(text.replace(bad, "_")) } else { Cow::Borrowed(text) }
}

/// The first `max` characters of `text`.
pub(super) fn cut(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_breaks_a_head_is_replaced() {
        assert_eq!(printable("my tag é[1]: %s"), "my tag é[1]: %s");
        assert_eq!(printable("a\nb\x1b\x7f\u{85}\0"), "a_b____");
        assert_eq!(word("a b\tc\u{a0}\u{2028}é"), "a_b_c__é");
    }

    proptest! {
        #[test]
        fn cut_counts_characters(text in any::<String>(), max in 0_usize..40) {
            prop_assert_eq!(cut(&text, max), text.chars().take(max).collect::<String>());
        }
    }
}
