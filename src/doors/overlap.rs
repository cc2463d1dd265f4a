//! Where two texts of the same stream agree: the content half of the seam and of the resume.
//!
//! The `attach` door gives a container's bytes verbatim. The `logs` door may not: the json-file
//! driver turns each invalid UTF-8 byte into U+FFFD, and cuts characters at its 16 KiB parts.
//! So both sides are compared in a projection that no driver changes: their ASCII bytes.
//!
//! Pure functions over slices.

/// U+FFFD in UTF-8: what json-file writes for each byte that is no UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Appends the projection of `bytes`, its ASCII bytes, to `out`.
pub(super) fn project(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_ascii() {
        out.extend_from_slice(bytes);
    } else {
        out.extend(bytes.iter().copied().filter(u8::is_ascii));
    }
}

/// The length of the projection of `bytes`.
pub(super) fn projected_len(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| byte.is_ascii()).count()
}

/// The offset in `bytes` just behind its `count`-th ASCII byte; the end if it has fewer.
/// Non-ASCII bytes that follow that byte are not passed: see [`pair`].
pub(super) fn behind_ascii(bytes: &[u8], count: usize) -> usize {
    let Some(last) = count.checked_sub(1) else { return 0 };
    let mut ascii = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii());
    ascii.nth(last).map_or(bytes.len(), |(at, _)| at + 1)
}

/// How many bytes of `raw` (from attach) and of `logged` (from logs) are the same non-ASCII text,
/// counted from the start of both until the first ASCII byte, the first difference or either end.
///
/// A U+FFFD in `logged` stands for itself or for one byte of `raw`. That also pairs a character
/// that a 16 KiB part cut in two, since json-file writes one U+FFFD for each of its bytes.
pub(super) fn pair(raw: &[u8], logged: &[u8]) -> (usize, usize) {
    let (mut r, mut l) = (0, 0);
    while let (Some(&a), Some(&b)) = (raw.get(r), logged.get(l)) {
        if a.is_ascii() || b.is_ascii() {
            break;
        }
        if logged[l..].starts_with(REPLACEMENT) {
            r += if raw[r..].starts_with(REPLACEMENT) { REPLACEMENT.len() } else { 1 };
            l += REPLACEMENT.len();
        } else if a == b {
            (r, l) = (r + 1, l + 1);
        } else {
            break;
        }
    }
    (r, l)
}

/// What hashes count in: odd, and so invertible modulo 2^64.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
const INVERSE: u64 = inverse(BASE);

/// Visits, in ascending order, every `at` in `0..=text.len()` where `pattern`, laid onto `text`
/// from `at` on, agrees with it as far as both reach. `at == text.len()` always does. `pattern` is
/// no longer than `text`.
///
/// O(`pattern` + `text`) time and no memory: what is laid upon each other is compared by rolling
/// hashes. No place is missed, and only text that was made for it has one visited that does not
/// agree.
pub(super) fn alignments(
    pattern: impl DoubleEndedIterator<Item = u8> + Clone,
    text: &[u8],
    mut visit: impl FnMut(usize),
) {
    let join = |hash: u64, byte: u8| hash.wrapping_mul(BASE).wrapping_add(u64::from(byte));
    // `power` is BASE to the length of what is compared.
    let (mut wanted, mut power, mut len) = (0, 1_u64, 0);
    for byte in pattern.clone() {
        (wanted, power, len) = (join(wanted, byte), power.wrapping_mul(BASE), len + 1);
    }
    let (head, rest) = text.split_at(len);
    let mut window = head.iter().fold(0, |hash, &byte| join(hash, byte));
    // All of `pattern`: the window moves.
    for (at, (&first, &next)) in text.iter().zip(rest).enumerate() {
        if window == wanted {
            visit(at);
        }
        window = join(window, next).wrapping_sub(u64::from(first).wrapping_mul(power));
    }
    // As much of it as there is text for: the window loses its first byte, `pattern` its last.
    for ((at, &first), last) in text.iter().enumerate().skip(rest.len()).zip(pattern.rev()) {
        if window == wanted {
            visit(at);
        }
        power = power.wrapping_mul(INVERSE);
        window = window.wrapping_sub(u64::from(first).wrapping_mul(power));
        wanted = wanted.wrapping_sub(u64::from(last)).wrapping_mul(INVERSE);
    }
    visit(text.len());
}

/// What times `odd` is 1 modulo 2^64, by Newton's method: each step doubles the bits that are
/// right.
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut right) = (odd, 3);
    while right < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right *= 2;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every alignment tried, byte by byte.
    fn naive(pattern: &[u8], text: &[u8]) -> Vec<usize> {
        let agrees = |at: &usize| text[*at..].iter().zip(pattern).all(|(a, b)| a == b);
        (0..=text.len()).filter(agrees).collect()
    }

    fn found(pattern: &[u8], text: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        alignments(pattern.iter().copied(), text, |at| found.push(at));
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn alignments_are_the_naive_ones(
            pattern in prop::collection::vec(b'a'..b'c', 0..12),
            text in prop::collection::vec(b'a'..b'c', 0..40),
        ) {
            let pattern = &pattern[..pattern.len().min(text.len())];
            prop_assert_eq!(found(pattern, &text), naive(pattern, &text));
        }

        #[test]
        fn a_cut_text_aligns_at_its_cut(
            text in prop::collection::vec(b'a'..b'd', 0..60),
            cut in 0usize..60,
            end in 0usize..60,
        ) {
            let cut = cut.min(text.len());
            let end = end.clamp(cut, text.len());
            let pattern = &text[cut..][..end.min(text.len() - cut)];
            prop_assert!(found(pattern, &text[..end]).contains(&cut));
        }

        #[test]
        fn ascii_is_counted_and_found(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut projection = Vec::new();
            project(&bytes, &mut projection);
            prop_assert_eq!(projection.len(), projected_len(&bytes));
            for count in 0..=projection.len() {
                let at = behind_ascii(&bytes, count);
                prop_assert_eq!(projected_len(&bytes[..at]), count);
                prop_assert!(count == 0 || bytes[at - 1].is_ascii());
            }
        }

        /// What the log turned into U+FFFD pairs with the bytes it was made of.
        #[test]
        fn invalid_bytes_pair_with_replacements(
            bytes in prop::collection::vec(prop::sample::select(vec![0xffu8, 0xfe, 0xc0]), 0..20),
        ) {
            let logged: Vec<u8> = bytes.iter().flat_map(|_| REPLACEMENT.to_vec()).collect();
            prop_assert_eq!(pair(&bytes, &logged), (bytes.len(), logged.len()));
        }
    }

    #[test]
    fn pairs_stop_where_they_must() {
        assert_eq!(pair("éa".as_bytes(), "éb".as_bytes()), (2, 2));
        assert_eq!(pair("é".as_bytes(), "à".as_bytes()), (1, 1)); // they share the first byte
        assert_eq!(pair("é".as_bytes(), b"\xef\xbf\xbd"), (1, 3)); // a character cut by a part
        assert_eq!(pair("\u{fffd}x".as_bytes(), "\u{fffd}".as_bytes()), (3, 3));
        assert_eq!(pair(b"", b"\xff"), (0, 0));
        assert_eq!(behind_ascii(b"a", 5), 1);
    }

    /// A text of one letter would take the naive version 4e10 steps.
    #[test]
    fn linear_on_periodic_text() {
        let mut pattern = vec![b'x'; 200_000];
        pattern.push(b'y');
        assert_eq!(found(&pattern, &vec![b'x'; 400_000]).len(), 200_001);
    }
}
