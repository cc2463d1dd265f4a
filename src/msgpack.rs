//! MessagePack, as much of it as the forward protocol of Fluentd needs: heads to be written, and a
//! reader of the few values that a server says. A base file: it knows nobody.
//!
//! The format: github.com/msgpack/msgpack, spec.md. Everything is written in the shortest form.

/// The longest head of a string, byte string, array or map.
pub const HEAD_MAX: usize = 5;
/// The first byte of a map whose count has 32 bits: see [`put_map32`].
pub const MAP32: u8 = 0xdf;
/// What comes before the eight bytes of Fluentd's EventTime: an extension of that length, type 0.
pub const EVENT_TIME: [u8; 2] = [0xd7, 0x00];

/// Appends `nil`.
pub fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

/// Appends a boolean.
pub fn put_bool(value: bool, out: &mut Vec<u8>) {
    out.push(0xc2 + u8::from(value));
}

/// Appends a whole number.
pub fn put_uint(value: u64, out: &mut Vec<u8>) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => put(0xcd, &(value as u16).to_be_bytes(), out),
        0x1_0000..=0xffff_ffff => put(0xce, &(value as u32).to_be_bytes(), out),
        _ => put(0xcf, &value.to_be_bytes(), out),
    }
}

/// Appends a whole number that may be below 0.
pub fn put_int(value: i64, out: &mut Vec<u8>) {
    match value {
        0.. => put_uint(value as u64, out),
        -0x20..0 => out.push(value as u8),
        -0x80..-0x20 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..-0x80 => put(0xd1, &(value as i16).to_be_bytes(), out),
        -0x8000_0000..-0x8000 => put(0xd2, &(value as i32).to_be_bytes(), out),
        _ => put(0xd3, &value.to_be_bytes(), out),
    }
}

/// Appends a number of double precision.
pub fn put_float(value: f64, out: &mut Vec<u8>) {
    put(0xcb, &value.to_bits().to_be_bytes(), out);
}

/// Appends the head of a string of `len` bytes, which follow.
#[inline]
pub fn put_str_head(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x20 => out.push(0xa0 | len as u8),
        0x20..0x100 => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..0x1_0000 => put(0xda, &(len as u16).to_be_bytes(), out),
        _ => put(0xdb, &(len as u32).to_be_bytes(), out),
    }
}

/// Appends a string: bytes that should be UTF-8.
pub fn put_str(text: &[u8], out: &mut Vec<u8>) {
    put_str_head(text.len(), out);
    out.extend_from_slice(text);
}

/// Appends the head of a byte string of `len` bytes, which follow.
pub fn put_bin_head(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x100 => out.extend_from_slice(&[0xc4, len as u8]),
        0x100..0x1_0000 => put(0xc5, &(len as u16).to_be_bytes(), out),
        _ => put(0xc6, &(len as u32).to_be_bytes(), out),
    }
}

/// Appends the head of an array of `len` values, which follow.
pub fn put_array(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x10 => out.push(0x90 | len as u8),
        0x10..0x1_0000 => put(0xdc, &(len as u16).to_be_bytes(), out),
        _ => put(0xdd, &(len as u32).to_be_bytes(), out),
    }
}

/// Appends the head of a map of `len` pairs, which follow.
pub fn put_map(len: usize, out: &mut Vec<u8>) {
    match len {
        0..0x10 => out.push(0x80 | len as u8),
        0x10..0x1_0000 => put(0xde, &(len as u16).to_be_bytes(), out),
        _ => put_map32(len as u32, out),
    }
}

/// The same in the longest form, whose count can be written over when it is known.
pub fn put_map32(len: u32, out: &mut Vec<u8>) {
    put(MAP32, &len.to_be_bytes(), out);
}

/// The head of an array in the longest form; see [`put_map32`].
pub fn put_array32(len: u32, out: &mut Vec<u8>) {
    put(0xdd, &len.to_be_bytes(), out);
}

/// Writes over the count of the head in the longest form at `at`.
pub fn set_count(out: &mut [u8], at: usize, len: u32) {
    out[at + 1..at + HEAD_MAX].copy_from_slice(&len.to_be_bytes());
}

fn put(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(bytes);
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// There is more to come of it.
    Short,
    /// It is another one, or none.
    Other,
}

/// Reads values one after the other.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of what `bytes` begin with.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What was not read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The head of an array: how many values follow.
    pub fn array(&mut self) -> Result<usize, Bad> {
        self.head(|kind| match kind {
            0x90..=0x9f => Some((0, usize::from(kind & 0xf))),
            0xdc => Some((2, 0)),
            0xdd => Some((4, 0)),
            _ => None,
        })
    }

    /// The head of a map: how many pairs follow.
    pub fn map(&mut self) -> Result<usize, Bad> {
        self.head(|kind| match kind {
            0x80..=0x8f => Some((0, usize::from(kind & 0xf))),
            0xde => Some((2, 0)),
            MAP32 => Some((4, 0)),
            _ => None,
        })
    }

    /// A string or byte string: old libraries have one kind for both.
    pub fn text(&mut self) -> Result<&'a [u8], Bad> {
        let len = self.head(|kind| match kind {
            0xa0..=0xbf => Some((0, usize::from(kind & 0x1f))),
            0xc4 | 0xd9 => Some((1, 0)),
            0xc5 | 0xda => Some((2, 0)),
            0xc6 | 0xdb => Some((4, 0)),
            _ => None,
        })?;
        self.take(len)
    }

    /// A boolean.
    pub fn boolean(&mut self) -> Result<bool, Bad> {
        self.head(|kind| matches!(kind, 0xc2 | 0xc3).then(|| (0, usize::from(kind & 1))))
            .map(|value| value == 1)
    }

    /// Passes over a value of any kind, however deep.
    pub fn skip(&mut self) -> Result<(), Bad> {
        let mut values = 1_u64;
        while values > 0 {
            values = values - 1 + self.skip_one()?;
        }
        Ok(())
    }

    /// Passes over a value, but for those that are in it; how many these are.
    fn skip_one(&mut self) -> Result<u64, Bad> {
        let kind = *self.rest.first().ok_or(Bad::Short)?;
        match kind {
            0x80..=0x8f | 0xde | MAP32 => return self.map().map(|pairs| 2 * pairs as u64),
            0x90..=0x9f | 0xdc | 0xdd => return self.array().map(|values| values as u64),
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => self.text().map(|_| ())?,
            0xc7..=0xc9 => {
                let digits = 1 << (kind - 0xc7);
                let len = self.head(|_| Some((digits, 0)))?;
                self.take(len + 1)?;
            }
            0xc1 => return Err(Bad::Other),
            _ => {
                let len = match kind {
                    0xcc | 0xd0 => 1,
                    0xcd | 0xd1 | 0xd4 => 2,
                    0xd5 => 3,
                    0xca | 0xce | 0xd2 => 4,
                    0xd6 => 5,
                    0xcb | 0xcf | 0xd3 => 8,
                    0xd7 => 9,
                    0xd8 => 17,
                    _ => 0,
                };
                self.take(1 + len)?;
            }
        }
        Ok(0)
    }

    /// A head: `form` says for its first byte how many bytes of a count follow, or the count if
    /// that is in it.
    fn head(&mut self, form: impl Fn(u8) -> Option<(usize, usize)>) -> Result<usize, Bad> {
        let (kind, rest) = self.rest.split_first().ok_or(Bad::Short)?;
        let (digits, count) = form(*kind).ok_or(Bad::Other)?;
        let (bytes, rest) = rest.split_at_checked(digits).ok_or(Bad::Short)?;
        self.rest = rest;
        Ok(bytes.iter().fold(count, |count, byte| count << 8 | usize::from(*byte)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Bad> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Bad::Short)?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rmpv::Value;

    fn decoded(bytes: &[u8]) -> Value {
        let mut rest = bytes;
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        value
    }

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    #[test]
    fn numbers_are_those_of_another_library_to_the_byte() {
        let edges = (0..64).flat_map(|bits| [-1, 0, 1].map(|by| (1_i64 << bits).wrapping_add(by)));
        for number in edges.flat_map(|number| [number, number.wrapping_neg()]) {
            let mut theirs = Vec::new();
            rmpv::encode::write_value(&mut theirs, &Value::from(number)).unwrap();
            assert_eq!(written(|out| put_int(number, out)), theirs, "{number}");
        }
        assert_eq!(decoded(&written(|out| put_uint(u64::MAX, out))), Value::from(u64::MAX));
        assert_eq!(decoded(&written(|out| put_float(-1.5e300, out))), Value::F64(-1.5e300));
        for value in [true, false] {
            assert_eq!(decoded(&written(|out| put_bool(value, out))), Value::Boolean(value));
        }
        assert_eq!(decoded(&written(put_nil)), Value::Nil);
    }

    #[test]
    fn heads_are_those_of_another_library_to_the_byte() {
        for len in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536, 100_000] {
            let text = "x".repeat(len);
            let nils = vec![Value::Nil; len];
            let pairs = vec![(Value::Nil, Value::Nil); len];
            for (ours, theirs) in [
                (written(|out| put_str(text.as_bytes(), out)), Value::from(&*text)),
                (
                    written(|out| {
                        put_bin_head(len, out);
                        out.extend_from_slice(text.as_bytes());
                    }),
                    Value::Binary(text.clone().into()),
                ),
                (
                    written(|out| {
                        put_array(len, out);
                        (0..len).for_each(|_| put_nil(out));
                    }),
                    Value::Array(nils),
                ),
                (
                    written(|out| {
                        put_map(len, out);
                        (0..2 * len).for_each(|_| put_nil(out));
                    }),
                    Value::Map(pairs),
                ),
            ] {
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &theirs).unwrap();
                assert!(ours == bytes, "{len}");
            }
        }
        let mut patched = written(|out| put_map32(0, out));
        set_count(&mut patched, 0, 1);
        patched.extend([0xc0, 0xc0]);
        assert_eq!(decoded(&patched), Value::Map(vec![(Value::Nil, Value::Nil)]));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::F32),
            any::<f64>().prop_map(Value::F64),
            "[a-z]{0,300}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
        ];
        leaf.prop_recursive(3, 30, 20, |inner| {
            let pair = (inner.clone(), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..20).prop_map(Value::Array),
                prop::collection::vec(pair, 0..20).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        /// Whatever another library writes is passed over to its end, and all of it is needed.
        #[test]
        fn any_value_can_be_skipped(value in value(), behind in any::<u8>()) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            for len in 0..bytes.len() {
                prop_assert_eq!(Reader::new(&bytes[..len]).skip(), Err(Bad::Short));
            }
            bytes.push(behind);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.skip(), Ok(()));
            prop_assert_eq!(reader.rest(), &[behind]);
            let mut reader = Reader::new(&bytes);
            match &value {
                Value::Array(values) => prop_assert_eq!(reader.array(), Ok(values.len())),
                Value::Map(pairs) => prop_assert_eq!(reader.map(), Ok(pairs.len())),
                Value::Boolean(value) => prop_assert_eq!(reader.boolean(), Ok(*value)),
                Value::String(text) => prop_assert_eq!(reader.text(), Ok(text.as_bytes())),
                Value::Binary(bytes) => prop_assert_eq!(reader.text(), Ok(&bytes[..])),
                _ => prop_assert_eq!(reader.text(), Err(Bad::Other)),
            }
        }
    }
}
