//! Which words share a bucket of Teddy, and at which bytes of each of them it looks.
//!
//! Pure. Teddy stops wherever the bytes of a place have low halves that some word of a bucket has
//! there, whichever word it is at each byte. So words that look alike in that way belong together,
//! and each is looked for by a part of it that is rare. Found by moving one word after the other to
//! where it costs least, from an even spread, until none moves: not the best there is, but the
//! estimate comes within a tenth of what joining pairs by size found, at a tenth of the work.

use super::words::Word;

/// Of 10,000 bytes of English log text, how many have which low half: letters by their frequency
/// in English, a tenth of them capitals, spaces, digits, and the signs that logs are full of.
const LOW_HALVES: [f64; 16] = [
    1434.0, 702.0, 702.0, 745.0, 1015.0, 1147.0, 375.0, 451.0, 501.0, 796.0, 124.0, 149.0, 350.0,
    363.0, 519.0, 626.0,
];
const ALL: f64 = 10_000.0;
/// Rounds after which it is good enough; half of them were seen to do.
const ROUNDS: usize = 20;

/// Where a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The bucket.
    pub bucket: usize,
    /// The first byte that is looked at.
    pub offset: usize,
}

/// For each of the `words`, which are of ASCII, its place in one of so many buckets, and the share
/// of all places of a text at which these stop, as far as can be said. `P` bytes are looked at.
pub(super) fn arrange<const P: usize>(words: &[Word], buckets: usize) -> (Vec<Place>, f64) {
    let mut places = spread::<P>(words, buckets);
    for _ in 0..ROUNDS {
        let mut moved = false;
        for (index, word) in words.iter().enumerate() {
            let best = best_place::<P>(words, &places, index, word, buckets);
            moved |= best != places[index];
            places[index] = best;
        }
        if !moved {
            break;
        }
    }
    let all = filled::<P>(words, &places, buckets, None).iter().map(share).sum();
    (places, all)
}

/// Evenly, those that begin alike together.
fn spread<const P: usize>(words: &[Word], buckets: usize) -> Vec<Place> {
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|&index| halves::<P>(&words[index], 0));
    let mut places = vec![Place { bucket: 0, offset: 0 }; words.len()];
    for (number, index) in order.into_iter().enumerate() {
        places[index].bucket = number * buckets / words.len();
    }
    places
}

/// The low halves that a bucket lets pass at each byte, a bit each.
type Halves<const P: usize> = [u16; P];

/// Where the word costs least, as the others lie; its own place if no other is better.
fn best_place<const P: usize>(
    words: &[Word],
    places: &[Place],
    index: usize,
    word: &Word,
    buckets: usize,
) -> Place {
    let without = filled::<P>(words, places, buckets, Some(index));
    let price = |place: Place| {
        let bucket = &without[place.bucket];
        share(&both(bucket, &halves(word, place.offset))) - share(bucket)
    };
    let mut best = (places[index], price(places[index]));
    for bucket in 0..buckets {
        for offset in 0..=word.bytes().len().saturating_sub(P) {
            let place = Place { bucket, offset };
            let price = price(place);
            if price < best.1 {
                best = (place, price);
            }
        }
    }
    best.0
}

/// What each bucket lets pass, without one of the words.
fn filled<const P: usize>(
    words: &[Word],
    places: &[Place],
    buckets: usize,
    without: Option<usize>,
) -> Vec<Halves<P>> {
    let mut filled = vec![[0; P]; buckets];
    for (index, place) in places.iter().enumerate().filter(|(index, _)| Some(*index) != without) {
        filled[place.bucket] = both(&filled[place.bucket], &halves(&words[index], place.offset));
    }
    filled
}

/// The low halves that the bytes of a word have from `offset` on; behind its end anything may
/// follow. Case is a matter of the high half.
fn halves<const P: usize>(word: &Word, offset: usize) -> Halves<P> {
    let half = |byte: &u8| 1 << (byte & 0xf);
    std::array::from_fn(|at| word.bytes().get(offset + at).map_or(u16::MAX, half))
}

fn both<const P: usize>(a: &Halves<P>, b: &Halves<P>) -> Halves<P> {
    std::array::from_fn(|at| a[at] | b[at])
}

/// For each set of the lower and of the upper eight halves, how many bytes have one of them.
const COUNTS: [[f64; 256]; 2] = {
    let mut counts = [[0.0; 256]; 2];
    let mut set = 1;
    while set < 256 {
        let lowest = (set as u8).trailing_zeros() as usize;
        let rest = set & (set - 1);
        counts[0][set] = counts[0][rest] + LOW_HALVES[lowest];
        counts[1][set] = counts[1][rest] + LOW_HALVES[8 + lowest];
        set += 1;
    }
    counts
};

/// The share of all places at which a bucket stops, as far as one byte knows nothing of the next.
fn share<const P: usize>(halves: &Halves<P>) -> f64 {
    let byte = |halves: &u16| {
        let [low, high] = halves.to_le_bytes().map(usize::from);
        (COUNTS[0][low] + COUNTS[1][high]) / ALL
    };
    halves.iter().map(byte).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::words::folded;

    fn words(list: &[&str]) -> Vec<Word> {
        list.iter().flat_map(|word| folded(vec![word.as_bytes().to_vec()])).collect()
    }

    fn cost(words: &[Word], places: &[Place], buckets: usize) -> f64 {
        filled::<4>(words, places, buckets, None).iter().map(share).sum()
    }

    #[test]
    fn low_halves_are_all_bytes() {
        let all: f64 = LOW_HALVES.iter().sum();
        assert!((all - ALL).abs() < 2.0, "{all}");
        let some = share(&[0b1000_0000_0000_0101]) * ALL;
        assert!((some - LOW_HALVES[0] - LOW_HALVES[2] - LOW_HALVES[15]).abs() < 1e-9, "{some}");
    }

    #[test]
    fn words_that_look_alike_share_a_bucket() {
        let words = words(&["timeout", "deadline", "timer", "TIMEOUT", "DEADLINE", "DEADLOCK"]);
        let (places, _) = arrange::<4>(&words, 2);
        let buckets: Vec<usize> = places.iter().map(|place| place.bucket).collect();
        assert_eq!(buckets[0], buckets[3]);
        assert_eq!(buckets[1], buckets[4]);
        assert_ne!(buckets[0], buckets[1]);
    }

    #[test]
    fn every_word_stays_within_itself_and_no_single_move_is_better() {
        let words = words(&[
            "error",
            "panic",
            "fatal",
            "denied",
            "warning",
            "degraded",
            "throttled",
            "timeout",
            "expired",
            "refused",
            "forbidden",
            "blocked",
            "oom",
            "segfault",
            "missing",
            "absent",
        ]);
        let (places, settled) = arrange::<4>(&words, 7);
        assert!((settled - cost(&words, &places, 7)).abs() < 1e-12);
        assert!(settled < cost(&words, &spread::<4>(&words, 7), 7) / 2.0);
        for (index, word) in words.iter().enumerate() {
            let last = word.bytes().len().saturating_sub(4);
            assert!(places[index].bucket < 7 && places[index].offset <= last);
            for bucket in 0..7 {
                for offset in 0..=last {
                    let mut other = places.clone();
                    other[index] = Place { bucket, offset };
                    assert!(cost(&words, &other, 7) >= settled - 1e-12, "{word:?}");
                }
            }
        }
    }
}
