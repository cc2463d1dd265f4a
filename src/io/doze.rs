//! On epoll a thread that is woken for many streams in turn sleeps a little before it waits again,
//! so that one wake-up finds what came for all of them. No stream may be busy by itself (then it
//! pauses alone, see [`super::tick`]); together they are.
//!
//! Each thread has its own; a thread that nobody told to never sleeps.

use std::cell::RefCell;
use std::time::Duration;

use super::clock;
use super::pace::Pace;

/// What a thread has read since it last waited, and how it has to pace itself.
struct Doze {
    pace: Pace,
    bytes: usize,
}

thread_local! {
    static DOZE: RefCell<Option<Doze>> = const { RefCell::new(None) };
}

/// From now on this thread may sleep for at most `limit` before it waits.
pub fn allow(limit: Duration) {
    DOZE.set(Some(Doze { pace: Pace::new(limit), bytes: 0 }));
}

/// The thread has read so much.
pub fn note(bytes: usize) {
    DOZE.with_borrow_mut(|doze| {
        if let Some(doze) = doze {
            doze.bytes += bytes;
        }
    });
}

/// The thread is about to wait: sleeps before, if it has been woken often enough.
pub fn before_wait() {
    let nap = DOZE.with_borrow_mut(|doze| {
        let doze = doze.as_mut().filter(|doze| doze.bytes > 0)?;
        doze.pace.next(std::mem::take(&mut doze.bytes), clock::now())
    });
    if let Some(nap) = nap {
        std::thread::sleep(nap);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(10);

    /// How long a thread that is woken so often, each time for so many bytes, sleeps in all.
    fn slept(allowed: bool, bytes: usize) -> Duration {
        let thread = std::thread::spawn(move || {
            if allowed {
                allow(LIMIT);
            }
            let mut slept = Duration::ZERO;
            for _ in 0..20 {
                note(bytes);
                let began = Instant::now();
                before_wait();
                slept += began.elapsed();
                // In a nap more comes.
                note(if slept.is_zero() { 0 } else { 3 * bytes });
            }
            slept
        });
        thread.join().unwrap()
    }

    #[test]
    fn a_thread_that_is_woken_often_sleeps_if_it_may() {
        assert!(slept(true, 1) >= LIMIT);
        assert!(slept(true, 0) < LIMIT);
        assert!(slept(false, 1) < LIMIT);
    }
}
