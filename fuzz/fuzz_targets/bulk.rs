//! Elasticsearch's answer under arbitrary bytes: what is read of it is what a naive reader finds, of
//! as many records as were sent, and in words that fit a line.
//!
//! Input: a byte for the number of records, and the answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logchute::transport::batch::bulk::{naive, read};

fuzz_target!(|data: &[u8]| {
    let Some((records, answer)) = data.split_first() else { return };
    let records = usize::from(*records).max(1);
    match read(answer, records) {
        Ok(Some(items)) => {
            assert_eq!(items.outcomes.len(), records);
            // What is skipped need not be text, where the naive reader wants text.
            if let Some(outcomes) = naive::outcomes(answer) {
                assert_eq!(outcomes, items.outcomes);
            }
        }
        Ok(None) => assert_eq!(naive::outcomes(answer), None),
        Err(why) => assert!(!why.contains(char::is_control) && why.len() < 200, "{why}"),
    }
});
