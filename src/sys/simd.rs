//! Vectors of 32 bytes, on CPUs that have AVX2.
//!
//! [`Avx2`] is the proof that the CPU has it: there is none elsewhere, so whoever holds one may use
//! the operations. They are single instructions only where they end up inside [`Avx2::run`]; that
//! is why all of them are `#[inline(always)]`, and the loops that use them should be too. Who uses
//! them has a twin without them, for other CPUs and as the oracle of its tests.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as cpu;
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Bytes of a vector.
pub const WIDTH: usize = 32;

/// The proof that this CPU has AVX2 (and BMI, LZCNT and POPCNT, which all such CPUs have).
#[derive(Clone, Copy, Debug)]
pub struct Avx2 {
    #[cfg(not(target_arch = "x86_64"))]
    never: std::convert::Infallible,
    #[cfg(target_arch = "x86_64")]
    _proof: (),
}

/// What this CPU was found to have, once somebody has looked: who asks for each line asks a lot.
#[cfg(target_arch = "x86_64")]
static FOUND: AtomicU8 = AtomicU8::new(0);
#[cfg(target_arch = "x86_64")]
const NOTHING: u8 = 1;
#[cfg(target_arch = "x86_64")]
const AVX2: u8 = 2;

/// A vector of 32 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Vector(#[cfg(target_arch = "x86_64")] cpu::__m256i);

impl Avx2 {
    /// The proof, if this CPU has what it takes.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn detect() -> Option<Avx2> {
        match FOUND.load(Relaxed) {
            NOTHING => None,
            AVX2 => Some(Avx2 { _proof: () }),
            _ => Avx2::look(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[cold]
    fn look() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        FOUND.store(if has { AVX2 } else { NOTHING }, Relaxed);
        has.then_some(Avx2 { _proof: () })
    }

    /// There is no AVX2 on this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Option<Avx2> {
        None
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[allow(missing_docs)]
impl Avx2 {
    pub fn run<R>(self, _work: impl FnOnce() -> R) -> R {
        match self.never {}
    }
    pub fn load(self, _bytes: &[u8; WIDTH]) -> Vector {
        match self.never {}
    }
    pub fn store(self, _vector: Vector, _to: &mut [u8; WIDTH]) {
        match self.never {}
    }
    pub fn append_until(self, _bytes: &[u8], _last: u8, _to: &mut Vec<u8>) -> Option<usize> {
        match self.never {}
    }
    pub fn append_before(
        self,
        _bytes: &[u8],
        _stops: impl Fn(Vector) -> u32,
        _to: &mut Vec<u8>,
    ) -> usize {
        match self.never {}
    }
    pub fn append(self, _vectors: &[[u8; WIDTH]], _len: usize, _to: &mut Vec<u8>) -> bool {
        match self.never {}
    }
    pub fn splat(self, _byte: u8) -> Vector {
        match self.never {}
    }
    pub fn twice(self, _half: &[u8; 16]) -> Vector {
        match self.never {}
    }
    pub fn equal(self, _a: Vector, _b: Vector) -> u32 {
        match self.never {}
    }
    pub fn below(self, _a: Vector, _b: Vector) -> u32 {
        match self.never {}
    }
    pub fn and(self, _a: Vector, _b: Vector) -> Vector {
        match self.never {}
    }
    pub fn or(self, _a: Vector, _b: Vector) -> Vector {
        match self.never {}
    }
    pub fn is_zero(self, _a: Vector) -> bool {
        match self.never {}
    }
    pub fn count(self, _byte: u8, _text: &[u8]) -> usize {
        match self.never {}
    }
    pub fn high_halves(self, _a: Vector) -> Vector {
        match self.never {}
    }
    pub fn look_up(self, _table: Vector, _index: Vector) -> Vector {
        match self.never {}
    }
}

// SAFETY, for all of this: an `Avx2` exists only where the CPU was seen to have what the
// instructions need, and no instruction but loads and stores touches memory; those are given
// references to arrays of just the bytes that they touch, and ask for no alignment.
#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// Does `work` in code that may use AVX2 as far as it is inlined.
    #[inline(always)]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,bmi1,lzcnt,popcnt")]
        fn inside<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: see above.
        unsafe { inside(work) }
    }

    /// The vector of these bytes.
    #[inline(always)]
    pub fn load(self, bytes: &[u8; WIDTH]) -> Vector {
        // SAFETY: see above.
        Vector(unsafe { cpu::_mm256_loadu_si256(bytes.as_ptr().cast()) })
    }

    /// Writes the vector's bytes.
    #[inline(always)]
    pub fn store(self, vector: Vector, to: &mut [u8; WIDTH]) {
        // SAFETY: see above.
        unsafe { cpu::_mm256_storeu_si256(to.as_mut_ptr().cast(), vector.0) }
    }

    /// Appends `bytes` up to and including the first `last`; says how many they are. `None`, and
    /// nothing appended, if there is none in the whole vectors of `bytes`, or the capacity that is
    /// left has no room for all vectors up to it.
    #[inline(always)]
    pub fn append_until(self, bytes: &[u8], last: u8, to: &mut Vec<u8>) -> Option<usize> {
        let last = self.splat(last);
        let room = to.spare_capacity_mut().as_chunks_mut::<WIDTH>().0;
        let mut whole = 0;
        for (bytes, room) in bytes.as_chunks().0.iter().zip(room) {
            let vector = self.load(bytes);
            // SAFETY: see above.
            unsafe { cpu::_mm256_storeu_si256(room.as_mut_ptr().cast(), vector.0) };
            let found = self.equal(vector, last);
            if found != 0 {
                let count = whole + found.trailing_zeros() as usize + 1;
                // SAFETY: the vectors up to here, which hold `count` bytes or more, were written
                // into the spare capacity, from its beginning.
                unsafe { to.set_len(to.len() + count) };
                return Some(count);
            }
            whole += WIDTH;
        }
        None
    }

    /// Appends `bytes` up to the first place in a vector of them where it `stops` (the lowest bit
    /// of what that returns), or as many vectors as there are and the capacity that is left has
    /// room for; says how many bytes that are.
    #[inline(always)]
    pub fn append_before(
        self,
        bytes: &[u8],
        stops: impl Fn(Vector) -> u32,
        to: &mut Vec<u8>,
    ) -> usize {
        let room = to.spare_capacity_mut().as_chunks_mut::<WIDTH>().0;
        let mut count = 0;
        for (bytes, room) in bytes.as_chunks().0.iter().zip(room) {
            let vector = self.load(bytes);
            // SAFETY: see above.
            unsafe { cpu::_mm256_storeu_si256(room.as_mut_ptr().cast(), vector.0) };
            let found = stops(vector);
            if found != 0 {
                count += found.trailing_zeros() as usize;
                break;
            }
            count += WIDTH;
        }
        // SAFETY: the vectors up to here, which hold `count` bytes or more, were written into the
        // spare capacity, from its beginning.
        unsafe { to.set_len(to.len() + count) };
        count
    }

    /// Appends the first `len` bytes of `vectors`, if the capacity that is left has room for all
    /// of them; says whether it has. `len` is no more than they hold.
    #[inline(always)]
    pub fn append(self, vectors: &[[u8; WIDTH]], len: usize, to: &mut Vec<u8>) -> bool {
        let room = to.spare_capacity_mut().as_chunks_mut::<WIDTH>().0;
        if room.len() < vectors.len() || len > vectors.len() * WIDTH {
            return false;
        }
        for (bytes, room) in vectors.iter().zip(room) {
            // SAFETY: see above.
            unsafe { cpu::_mm256_storeu_si256(room.as_mut_ptr().cast(), self.load(bytes).0) };
        }
        // SAFETY: so many bytes, or more, were just written into the spare capacity.
        unsafe { to.set_len(to.len() + len) };
        true
    }

    /// A vector of 32 times `byte`.
    #[inline(always)]
    pub fn splat(self, byte: u8) -> Vector {
        // SAFETY: see above.
        Vector(unsafe { cpu::_mm256_set1_epi8(byte as i8) })
    }

    /// A vector that has `half` in both halves: a table for [`Avx2::look_up`].
    #[inline(always)]
    pub fn twice(self, half: &[u8; 16]) -> Vector {
        // SAFETY: see above; `half` has the 16 bytes that are loaded.
        Vector(unsafe {
            cpu::_mm256_broadcastsi128_si256(cpu::_mm_loadu_si128(half.as_ptr().cast()))
        })
    }

    /// The places where both have the same byte, the first as the lowest bit.
    #[inline(always)]
    pub fn equal(self, a: Vector, b: Vector) -> u32 {
        // SAFETY: see above.
        unsafe { cpu::_mm256_movemask_epi8(cpu::_mm256_cmpeq_epi8(a.0, b.0)) as u32 }
    }

    /// The places where the byte of `a` is below that of `b`, as numbers with a sign.
    #[inline(always)]
    pub fn below(self, a: Vector, b: Vector) -> u32 {
        // SAFETY: see above.
        unsafe { cpu::_mm256_movemask_epi8(cpu::_mm256_cmpgt_epi8(b.0, a.0)) as u32 }
    }

    /// Bit by bit, what both have.
    #[inline(always)]
    pub fn and(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        Vector(unsafe { cpu::_mm256_and_si256(a.0, b.0) })
    }

    /// Bit by bit, what either has.
    #[inline(always)]
    pub fn or(self, a: Vector, b: Vector) -> Vector {
        // SAFETY: see above.
        Vector(unsafe { cpu::_mm256_or_si256(a.0, b.0) })
    }

    /// Whether no bit is set.
    #[inline(always)]
    pub fn is_zero(self, a: Vector) -> bool {
        // SAFETY: see above.
        unsafe { cpu::_mm256_testz_si256(a.0, a.0) == 1 }
    }

    /// How often `byte` is in `text`.
    #[inline(always)]
    pub fn count(self, byte: u8, text: &[u8]) -> usize {
        /// Vectors of a step, and steps after which no count of a lane is above 255.
        const STEP: usize = 4;
        const STEPS: usize = u8::MAX as usize / STEP;
        let wanted = self.splat(byte);
        let (steps, rest) = text.as_chunks::<{ STEP * WIDTH }>();
        let mut all = 0;
        for steps in steps.chunks(STEPS) {
            let mut lanes = self.splat(0).0;
            for step in steps {
                for vector in step.as_chunks().0 {
                    // SAFETY: see above.
                    lanes = unsafe {
                        let same = cpu::_mm256_cmpeq_epi8(self.load(vector).0, wanted.0);
                        cpu::_mm256_sub_epi8(lanes, same)
                    };
                }
            }
            // SAFETY: see above; a vector is four numbers of eight bytes.
            let sums: [u64; 4] =
                unsafe { std::mem::transmute(cpu::_mm256_sad_epu8(lanes, self.splat(0).0)) };
            all += sums.iter().sum::<u64>() as usize;
        }
        all + rest.iter().filter(|&&b| b == byte).count()
    }

    /// The high four bits of each byte, as a number.
    #[inline(always)]
    pub fn high_halves(self, a: Vector) -> Vector {
        // SAFETY: see above.
        let shifted = Vector(unsafe { cpu::_mm256_srli_epi16(a.0, 4) });
        self.and(shifted, self.splat(0x0f))
    }

    /// For each byte of `index`: that byte of `table`, whose halves are the same, by its low four
    /// bits alone; 0 where its highest bit is set.
    #[inline(always)]
    pub fn look_up(self, table: Vector, index: Vector) -> Vector {
        // SAFETY: see above.
        Vector(unsafe { cpu::_mm256_shuffle_epi8(table.0, index.0) })
    }
}

impl Avx2 {
    /// Where the first `byte` of `text` is.
    #[inline(always)]
    pub fn find(self, byte: u8, text: &[u8]) -> Option<usize> {
        const STEP: usize = 2 * WIDTH;
        let wanted = self.splat(byte);
        let places = |vectors: &[u8; STEP]| {
            let places = |at: usize| {
                let vector = vectors[at..].first_chunk().unwrap_or(&[0; WIDTH]);
                u64::from(self.equal(self.load(vector), wanted))
            };
            places(WIDTH) << WIDTH | places(0)
        };
        let mut rest = text;
        while let Some((vectors, after)) = rest.split_first_chunk() {
            let found = places(vectors);
            if found != 0 {
                return Some(text.len() - rest.len() + found.trailing_zeros() as usize);
            }
            rest = after;
        }
        let at = match text.last_chunk() {
            Some(vectors) if !rest.is_empty() => {
                let found = places(vectors) >> (STEP - rest.len());
                (found != 0).then(|| found.trailing_zeros() as usize)
            }
            _ => rest.iter().position(|&b| b == byte),
        };
        at.map(|at| text.len() - rest.len() + at)
    }

    /// Where the last `byte` of `text` is, if it is at `from` or behind it.
    #[inline(always)]
    pub fn rfind(self, byte: u8, text: &[u8], from: usize) -> Option<usize> {
        let wanted = self.splat(byte);
        // Whole vectors, with bytes before `from` if need be.
        let base = from.saturating_sub(WIDTH - 1);
        let mut rest = text.get(base..)?;
        while let Some((before, vector)) = rest.split_last_chunk() {
            let found = self.equal(self.load(vector), wanted);
            if found != 0 {
                let last = u32::BITS - 1 - found.leading_zeros();
                return Some(base + before.len() + last as usize).filter(|at| *at >= from);
            }
            rest = before;
        }
        let at = rest.iter().rposition(|&b| b == byte)?;
        Some(base + at).filter(|at| *at >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn found_as_by_position(
            text in prop::collection::vec(prop::sample::select(vec![b'a', b'b']), 0..8),
            runs in prop::collection::vec(0..70_usize, 8),
            from in 0..200_usize,
        ) {
            let Some(avx2) = Avx2::detect() else { return Ok(()) };
            let text = text.iter().zip(&runs);
            let spread = text.flat_map(|(b, run)| [&vec![b'x'; *run][..], &[*b]].concat());
            let text: Vec<u8> = spread.collect();
            let first = text.iter().position(|&b| b == b'a');
            let last = text.iter().rposition(|&b| b == b'a').filter(|at| *at >= from);
            prop_assert_eq!(avx2.run(|| avx2.find(b'a', &text)), first);
            prop_assert_eq!(avx2.run(|| avx2.rfind(b'a', &text, from)), last);
        }

        #[test]
        fn counted_as_by_filter(
            runs in prop::collection::vec(0..300_usize, 0..200),
            byte in any::<u8>(),
        ) {
            let Some(avx2) = Avx2::detect() else { return Ok(()) };
            let other = byte.wrapping_add(1);
            let mut text = Vec::new();
            for (at, run) in runs.iter().enumerate() {
                text.extend(std::iter::repeat_n(if at % 2 == 0 { other } else { byte }, *run));
            }
            let count = text.iter().filter(|&&b| b == byte).count();
            prop_assert_eq!(avx2.run(|| avx2.count(byte, &text)), count);
        }

        #[test]
        fn append_until_is_find_and_copy(
            mut bytes in prop::collection::vec(prop::sample::select(vec![b'a', b'\x8a']), 0..200),
            at in 0..200_usize,
            before in 0..40_usize,
            room in 0..200_usize,
        ) {
            let Some(avx2) = Avx2::detect() else { return Ok(()) };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b'\n';
            }
            let mut to = Vec::with_capacity(before + room);
            to.resize(before, b'x');
            let room = to.capacity() - before;
            let appended = avx2.run(|| avx2.append_until(&bytes, b'\n', &mut to));
            let end = bytes.iter().position(|&b| b == b'\n').map(|end| end + 1);
            let vectors = end.map_or(0, |end| end.div_ceil(WIDTH) * WIDTH);
            let expected = end.filter(|_| vectors <= bytes.len() && vectors <= room);
            prop_assert_eq!(appended, expected);
            prop_assert_eq!(&to[before..], &bytes[..expected.unwrap_or(0)]);
        }

        #[test]
        fn append_before_is_find_and_copy(
            bytes in prop::collection::vec(
                prop::sample::select(b"aaaaaaaa\xc3 \x1f".to_vec()),
                0..200,
            ),
            room in 0..200_usize,
        ) {
            let Some(avx2) = Avx2::detect() else { return Ok(()) };
            let mut to = Vec::with_capacity(room);
            let stops = |vector| avx2.below(vector, avx2.splat(b' '));
            let vectors = (bytes.len().min(to.capacity()) / WIDTH) * WIDTH;
            let first = bytes.iter().position(|b| (*b as i8) < b' ' as i8);
            let expected = first.unwrap_or(usize::MAX).min(vectors);
            let appended = avx2.run(|| avx2.append_before(&bytes, stops, &mut to));
            prop_assert_eq!(appended, expected);
            prop_assert_eq!(&to, &bytes[..expected]);
        }

        #[test]
        fn append_is_a_copy(count in 0..5_usize, len in 0..170_usize, room in 0..200_usize) {
            let Some(avx2) = Avx2::detect() else { return Ok(()) };
            let vectors: Vec<[u8; WIDTH]> = (0..count).map(|n| [n as u8; WIDTH]).collect();
            let mut to = Vec::with_capacity(room);
            let fits = count * WIDTH <= to.capacity() && len <= count * WIDTH;
            prop_assert_eq!(avx2.run(|| avx2.append(&vectors, len, &mut to)), fits);
            let expected = if fits { &vectors.as_flattened()[..len] } else { &[] };
            prop_assert_eq!(&to, expected);
        }
    }
}
