//! What a log on the disk holds, and where it is being read: the books of [`super::volume`], which
//! has the files. Pure.
//!
//! Records are numbered from the log's first. Four numbers say it all, each at least the one
//! before: up to where records are delivered, were handed on to be, were read, were written.

use std::collections::VecDeque;

use super::segment::{HEADER_LEN, Head};

/// A file of the log, named by the number of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first record.
    pub first: u64,
    /// The number of the record behind its last.
    pub end: u64,
    /// Its bytes.
    pub len: u64,
}

/// Where the next frame is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// How many bytes it has from there on; at least one.
    pub left: u64,
}

/// The books of one log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    segments: VecDeque<Segment>,
    segment_max: u64,
    /// The last segment gets no more frames.
    full_stop: bool,
    next: u64,
    read: u64,
    handed: u64,
    delivered: u64,
    /// The segment that is being read, and where in it.
    at: Option<u64>,
    offset: u64,
    /// Records that cannot be read any more, and that nobody was told of.
    lost: u64,
}

impl Log {
    /// An empty one, of segments of about `segment_max` bytes.
    pub fn new(segment_max: u64) -> Log {
        Log { segment_max, ..Log::default() }
    }

    /// One that was found: `segments` in their order, delivered up to `delivered`.
    pub fn found(segments: Vec<Segment>, delivered: u64) -> Log {
        let begin = segments.first().map_or(delivered, |segment| segment.first.max(delivered));
        let next = segments.last().map_or(begin, |segment| segment.end.max(begin));
        Log {
            segments: segments.into(),
            full_stop: true,
            next,
            read: begin,
            handed: begin,
            delivered: begin,
            ..Log::new(0)
        }
    }

    /// Records that are not delivered.
    pub fn held(&self) -> u64 {
        self.next - self.settled()
    }

    /// Records that were not read.
    pub fn unread(&self) -> u64 {
        self.next - self.read
    }

    /// The number of the next record that is written.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of the first record that is not delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes of the files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// What lies behind the last record that was delivered: lost ones are passed over.
    fn settled(&self) -> u64 {
        if self.delivered >= self.handed { self.read } else { self.delivered }
    }

    /// Whether a frame of so many bytes begins a segment.
    pub fn begins_segment(&self, frame: u64) -> bool {
        self.full_stop
            || self.segments.back().is_none_or(|last| {
                last.end > last.first && last.len.saturating_add(frame) > self.segment_max
            })
    }

    /// A segment was begun. Returns its name.
    pub fn began(&mut self) -> u64 {
        let segment = Segment { first: self.next, end: self.next, len: HEADER_LEN as u64 };
        // One without records has the same name: it is written anew.
        if self.segments.back().is_some_and(|last| last.first == self.next) {
            self.segments.pop_back();
        }
        self.segments.push_back(segment);
        self.full_stop = false;
        segment.first
    }

    /// The segment that is written, and its bytes.
    pub fn writing(&self) -> Option<Segment> {
        self.segments.back().copied()
    }

    /// A frame of so many records and bytes was written.
    pub fn appended(&mut self, records: u64, frame: u64) {
        self.next += records;
        if let Some(last) = self.segments.back_mut() {
            last.end = self.next;
            last.len += frame;
        }
    }

    /// The last segment is not to be written any more: what was delivered of it is to be deleted
    /// with it, or it is not known what is behind its last frame.
    pub fn stop_segment(&mut self) {
        self.full_stop = true;
    }

    /// Where the next frame lies; `None` if all was read.
    pub fn place(&mut self) -> Option<Place> {
        while self.read < self.next {
            let segment = *self.reading()?;
            if self.at != Some(segment.first) {
                (self.at, self.offset) = (Some(segment.first), HEADER_LEN as u64);
            }
            if self.offset < segment.len {
                let left = segment.len - self.offset;
                return Some(Place { segment: segment.first, offset: self.offset, left });
            }
            self.leave_segment();
        }
        None
    }

    /// The first segment that has records that were not read.
    fn reading(&self) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.end > self.read)
    }

    /// A frame was found there; it may turn out to be damaged inside, and then is not `taken`.
    pub fn passed(&mut self, head: &Head) {
        self.offset = self.offset.saturating_add(head.frame_len());
    }

    /// Its records were read; what is missing before them is lost. Returns how many of them, from
    /// the first on, are delivered already: maybe all.
    pub fn taken(&mut self, head: &Head) -> u64 {
        self.lost += head.first.min(self.next).saturating_sub(self.read);
        let known = self.read.max(self.delivered);
        let delivered = known.saturating_sub(head.first).min(u64::from(head.records));
        // A frame cannot have numbers that its log has not.
        let end = head.end().min(self.next);
        if end > self.read {
            (self.handed, self.read) = (end, end);
        }
        delivered
    }

    /// What is left of the segment cannot be read: records in it that were not are lost.
    pub fn leave_segment(&mut self) {
        let Some(end) = self.reading().map(|segment| segment.end) else { return };
        self.lost += end - self.read;
        self.read = end;
        // What would be written behind could not be found.
        self.full_stop |= end == self.next;
    }

    /// How many records were lost since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Records before `number` are delivered. Returns the segments that are of no use any more.
    pub fn deliver(&mut self, number: u64) -> Vec<u64> {
        self.delivered = self.delivered.max(number.min(self.handed));
        self.finished()
    }

    /// Segments that are of no use any more, to be deleted.
    pub fn finished(&mut self) -> Vec<u64> {
        let settled = self.settled();
        let count = self.segments.iter().take_while(|segment| segment.end <= settled).count();
        self.segments.drain(..count).map(|segment| segment.first).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::segment::{HEAD_LEN, Next, next, write_frame};

    const FRAME: u64 = 100;

    fn head(first: u64, records: u32) -> Head {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, 1, first, 0, &[], (0..records).map(|_| 0));
        match next(&bytes[..HEAD_LEN], bytes.len() as u64, 1) {
            Next::Frame(head) => head,
            other => panic!("{other:?}"),
        }
    }

    /// Ten frames of ten records each, two of them in a segment.
    fn written() -> Log {
        let mut log = Log::new(HEADER_LEN as u64 + 2 * FRAME);
        for _ in 0..10 {
            if log.begins_segment(FRAME) {
                log.began();
            }
            log.appended(10, FRAME);
        }
        log
    }

    fn segments(log: &Log) -> Vec<u64> {
        log.segments.iter().map(|segment| segment.first).collect()
    }

    /// Reads a frame of ten records.
    fn read(log: &mut Log) -> u64 {
        let place = log.place().unwrap();
        let (at, inside) = (place.segment, place.offset - HEADER_LEN as u64);
        log.offset = place.offset + FRAME;
        log.taken(&head(at + inside / FRAME * 10, 10))
    }

    #[test]
    fn what_is_written_is_read_and_deleted_segment_by_segment() {
        let mut log = written();
        assert_eq!(segments(&log), [0, 20, 40, 60, 80]);
        for n in 1..=10 {
            assert_eq!(read(&mut log), 0);
            assert_eq!(log.unread(), 100 - 10 * n);
        }
        assert_eq!(log.place(), None);
        assert_eq!(log.deliver(19), [0; 0]);
        assert_eq!(log.deliver(45), [0, 20]);
        assert_eq!((log.held(), log.bytes()), (55, 3 * (HEADER_LEN as u64 + 2 * FRAME)));
        assert_eq!(log.deliver(1000), [40, 60, 80]);
        assert_eq!((log.held(), log.bytes(), log.next()), (0, 0, 100));
        assert!(log.begins_segment(FRAME));
        assert_eq!(log.began(), 100);
    }

    #[test]
    fn a_segment_that_grows_is_read_on_where_it_was_left() {
        let mut log = Log::new(u64::MAX);
        for n in 0..5 {
            if log.begins_segment(FRAME) {
                log.began();
            }
            log.appended(10, FRAME);
            assert_eq!(log.place().map(|place| place.offset), Some(HEADER_LEN as u64 + n * FRAME));
            log.offset += FRAME;
            assert_eq!(log.taken(&head(n * 10, 10)), 0);
            assert_eq!(log.place(), None);
        }
        assert_eq!(segments(&log), [0]);
    }

    #[test]
    fn what_is_not_handed_on_is_not_delivered() {
        let mut log = written();
        read(&mut log);
        assert_eq!(log.deliver(1000), [0; 0]);
        assert_eq!((log.delivered(), log.held()), (10, 90));
    }

    #[test]
    fn records_that_cannot_be_read_are_counted_and_passed_over() {
        let mut log = written();
        read(&mut log);
        // The second frame's body is damaged, and then nobody knows where the fourth begins.
        let second = head(10, 10);
        log.offset += FRAME - second.frame_len();
        log.passed(&second);
        assert_eq!(read(&mut log), 0);
        assert_eq!((log.take_lost(), log.unread()), (10, 70));
        log.leave_segment();
        assert_eq!(read(&mut log), 0);
        assert_eq!((log.take_lost(), log.unread()), (10, 50));
        assert_eq!(log.deliver(50), [0, 20]);
        while log.unread() > 10 {
            read(&mut log);
        }
        log.leave_segment();
        assert_eq!((log.place(), log.take_lost(), log.held()), (None, 10, 50));
        // Lost ones at the end keep nothing.
        assert_eq!(log.deliver(90), [40, 60, 80]);
        assert_eq!(log.held(), 0);
    }

    #[test]
    fn what_a_damaged_frame_had_is_missed_by_the_next_one() {
        let mut log = written();
        let offset = log.place().unwrap().offset;
        log.offset = offset + FRAME;
        assert_eq!((read(&mut log), log.take_lost()), (0, 10));
    }

    #[test]
    fn a_log_that_is_found_goes_on_behind_what_was_delivered() {
        let before = written();
        let mut log = Log::found(before.segments.iter().copied().collect(), 33);
        assert_eq!((log.held(), log.unread()), (67, 67));
        assert_eq!(log.finished(), [0]);
        // The first frame of the segment at 20 is all delivered, of the second one a part.
        assert_eq!([read(&mut log), read(&mut log), read(&mut log)], [10, 3, 0]);
        assert_eq!(log.take_lost(), 0);
        assert_eq!(log.deliver(40), [20]);
        let empty = Log::found(Vec::new(), 12);
        assert_eq!((empty.held(), empty.next()), (0, 12));
    }

    #[test]
    fn a_segment_without_records_is_begun_anew_under_its_name() {
        let mut log = Log::new(1000);
        assert_eq!(log.began(), 0);
        log.stop_segment();
        assert!(log.begins_segment(1));
        assert_eq!(log.began(), 0);
        assert_eq!(segments(&log), [0]);
    }
}
