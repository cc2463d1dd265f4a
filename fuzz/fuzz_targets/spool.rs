//! The spool's format under arbitrary damage: what is read of a segment is what was written there, in
//! its order, whatever became of the rest. And what an outbox orders of a spool, which obeys or not:
//! each record is delivered, dropped and counted, or kept, once and in its turn.
//!
//! Input: a byte that says which. For the format: how many places are damaged (0 to 3), so often two
//! bytes for the place and one for what is there then, and the segment's records, each a length and
//! as many bytes; a length of 255 ends a frame. For the orders: whether records are datagrams and
//! what the disk does at the end, and then two bytes for each step.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::buffer::shelf::naive::{Model, Op};
use logchute::spool::segment::naive::read;
use logchute::spool::segment::{Header, latest_mark, write_frame};

const ROUTE: u64 = 7;

fuzz_target!(|data: &[u8]| match data {
    [0..=99, data @ ..] => damage(data),
    [100..=109, data @ ..] => {
        read(data, ROUTE);
        latest_mark(data, ROUTE);
    }
    [end, steps @ ..] => orders(end % 2 == 0, end % 4 < 2, steps),
    [] => {}
});

fn damage(data: &[u8]) {
    let Some((&places, rest)) = data.split_first() else { return };
    let Some((damage, mut rest)) = rest.split_at_checked(usize::from(places % 4) * 3) else {
        return;
    };
    let mut frames = vec![Vec::new()];
    while let Some((&len, behind)) = rest.split_first() {
        if len == 255 {
            frames.push(Vec::new());
            rest = behind;
        } else {
            let (record, behind) = behind.split_at(usize::from(len).min(behind.len()));
            frames.last_mut().unwrap().push(record.to_vec());
            rest = behind;
        }
    }
    let (mut segment, all) = written(&frames);
    assert_eq!(read(&segment, ROUTE), (all.clone(), true));
    for place in damage.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([place[0], place[1]])) % segment.len();
        segment[at] = place[2];
    }
    let (records, _) = read(&segment, ROUTE);
    assert!(records.is_sorted_by_key(|(number, _)| *number));
    for (number, record) in records {
        assert_eq!(record, all[number as usize].1);
    }
}

/// A segment of these frames, and its records with their numbers.
fn written(frames: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let mut segment = Header { route: ROUTE, first: 0 }.encode().to_vec();
    let mut number = 0;
    for records in frames.iter().filter(|records| !records.is_empty()) {
        let ends = records.iter().scan(0, |end, record| {
            *end += record.len() as u32;
            Some(*end)
        });
        write_frame(&mut segment, ROUTE, number, 0, &records.concat(), ends);
        number += records.len() as u64;
    }
    (segment, (0..).zip(frames.concat()).collect())
}

fn orders(datagrams: bool, accept: bool, steps: &[u8]) {
    let mut model = Model::new(datagrams);
    for step in steps.chunks_exact(2) {
        let operand = step[1];
        model.step(match step[0] % 8 {
            0 | 1 => Op::Put(operand, u16::from(step[0]) * 50),
            2 => Op::Send(operand),
            3 => Op::Acknowledge(u32::from(operand) * 200),
            4 => Op::Break,
            5 | 6 => Op::Obey(operand > 25),
            _ => Op::Again,
        });
    }
    model.end(accept);
}
