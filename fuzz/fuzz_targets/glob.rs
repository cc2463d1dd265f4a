//! `path.Match`: patterns and names, against the rules of Go's documentation put into code the
//! plain way.
//!
//! Input: a pattern, a zero byte, and names between zero bytes (which need not be UTF-8).

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::route::glob::Glob;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|&byte| byte == 0);
    let Some(Ok(pattern)) = parts.next().map(str::from_utf8) else { return };
    if pattern.len() > 64 {
        return;
    }
    let characters: Vec<char> = pattern.chars().collect();
    let parsed = parse(&characters);
    let glob = match Glob::new(pattern) {
        Ok(glob) => glob,
        Err(error) => {
            assert_eq!(error.to_string().lines().count(), 1);
            return assert_eq!(parsed, None, "{pattern:?} is refused");
        }
    };
    let parts_of_pattern = parsed.unwrap_or_else(|| panic!("{pattern:?} is taken"));
    for name in parts.filter(|name| name.len() <= 64) {
        let expected = matches(&parts_of_pattern, name);
        assert_eq!(glob.matches(name), expected, "{pattern:?} {name:?}");
    }
});

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Star,
    Any,
    Literal(char),
    Class { not: bool, ranges: Vec<(char, char)> },
}

/// `None`: malformed.
fn parse(mut rest: &[char]) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        parts.push(match first {
            '*' => Part::Star,
            '?' => Part::Any,
            '\\' => {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                Part::Literal(escaped)
            }
            '[' => class(&mut rest)?,
            other => Part::Literal(other),
        });
    }
    Some(parts)
}

fn class(rest: &mut &[char]) -> Option<Part> {
    let not = rest.first() == Some(&'^');
    *rest = &rest[usize::from(not)..];
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&']') && !ranges.is_empty() {
            *rest = &rest[1..];
            return Some(Part::Class { not, ranges });
        }
        let low = class_character(rest)?;
        let mut high = low;
        if rest.first() == Some(&'-') {
            *rest = &rest[1..];
            high = class_character(rest)?;
        }
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut &[char]) -> Option<char> {
    let mut at = 0;
    match rest.first()? {
        '-' | ']' => return None,
        '\\' => at = 1,
        _ => {}
    }
    let character = *rest.get(at)?;
    *rest = &rest[at + 1..];
    // Something has to follow, if only the bracket.
    if rest.is_empty() { None } else { Some(character) }
}

/// Chunk by chunk: the parts between two stars take the first place where they fit.
fn matches(parts: &[Part], mut name: &[u8]) -> bool {
    let mut rest = parts;
    while !rest.is_empty() {
        let stars = rest.iter().take_while(|part| **part == Part::Star).count();
        rest = &rest[stars..];
        let end = rest.iter().position(|part| *part == Part::Star).unwrap_or(rest.len());
        let (chunk, after) = rest.split_at(end);
        rest = after;
        if stars > 0 && chunk.is_empty() {
            return !name.contains(&b'/');
        }
        let mut skip = 0;
        name = loop {
            if let Some(left) = fits(chunk, &name[skip..])
                && (!rest.is_empty() || left.is_empty())
            {
                break left;
            }
            if stars == 0 || skip == name.len() || name[skip] == b'/' {
                return false;
            }
            skip += 1;
        };
    }
    name.is_empty()
}

/// What is left of `name` behind a chunk that fits at its beginning.
fn fits<'n>(chunk: &[Part], mut name: &'n [u8]) -> Option<&'n [u8]> {
    for part in chunk {
        if name.is_empty() {
            return None;
        }
        let (character, len) = first_character(name);
        match part {
            Part::Literal(literal) => {
                let mut bytes = [0; 4];
                name = name.strip_prefix(literal.encode_utf8(&mut bytes).as_bytes())?;
                continue;
            }
            Part::Any if name[0] == b'/' => return None,
            Part::Any => {}
            Part::Class { not, ranges } => {
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                if within == *not {
                    return None;
                }
            }
            Part::Star => unreachable!("chunks have none"),
        }
        name = &name[len..];
    }
    Some(name)
}

/// The first character, and its length; U+FFFD and 1 where there is none.
fn first_character(name: &[u8]) -> (char, usize) {
    let text = (1..=4).find_map(|len| str::from_utf8(name.get(..len)?).ok());
    let character = text.and_then(|text| text.chars().next());
    character.map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8()))
}
