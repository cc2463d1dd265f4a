//! Pauses of less than a millisecond, which the runtime's own timer cannot tell apart.
//!
//! One kernel timer a shard serves all its streams: pauses end on a common grid, so that one
//! wake-up finds the bytes of every stream that paused. While nobody pauses the timer is off.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::clock;
use crate::sys::fd::watched;

/// The timer of one shard.
pub struct Ticker {
    timer: TimerFd,
    grid: Duration,
    origin: Instant,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Who pauses, and until when.
    pausing: Vec<(Instant, Waker)>,
    /// When the timer goes off.
    armed: Option<Instant>,
}

impl Ticker {
    /// A timer whose pauses end on multiples of `grid`. It is looked after by a local task.
    ///
    /// # Errors
    /// Where the operating system has no timer for us.
    pub fn start(grid: Duration) -> io::Result<Rc<Ticker>> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let events = watched(Rc::new(timer.as_fd().try_clone_to_owned()?))?;
        let (grid, origin) = (grid.max(Duration::from_micros(1)), clock::now());
        let ticker = Rc::new(Ticker { timer, grid, origin, state: RefCell::default() });
        tokio::task::spawn_local(Rc::clone(&ticker).run(events));
        Ok(ticker)
    }

    /// Pauses for `length`, less what the grid takes from it: never longer, as far as it is up to
    /// us. May be dropped at any time.
    pub async fn pause(&self, length: Duration) {
        #[cfg(test)]
        if super::sim::is_entered() {
            return tokio::time::sleep(length).await;
        }
        let until = on_grid(self.origin, clock::now() + length, self.grid);
        poll_fn(|context| {
            if clock::now() >= until {
                return Poll::Ready(());
            }
            let state = &mut *self.state.borrow_mut();
            state.pausing.push((until, context.waker().clone()));
            self.arm(state, until);
            Poll::Pending
        })
        .await;
    }

    /// Sees to it that the timer goes off at `at`, if not before.
    fn arm(&self, state: &mut State, at: Instant) {
        if state.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        // Zero would switch the timer off.
        let left = at.saturating_duration_since(clock::now()).max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        match self.timer.set(once, TimerSetTimeFlags::empty()) {
            Ok(()) => state.armed = Some(at),
            // Cannot be, with a time like this; nobody is to wait for ever all the same.
            Err(_) => state.pausing.drain(..).for_each(|(_, waker)| waker.wake()),
        }
    }

    async fn run(self: Rc<Self>, events: AsyncFd<Rc<std::os::fd::OwnedFd>>) {
        // The timer is set anew rather than read: that is what resets its count, and each time it
        // goes off is an event of its own.
        while let Ok(mut ready) = events.readable().await {
            ready.clear_ready();
            let (state, now) = (&mut *self.state.borrow_mut(), clock::now());
            state.armed = None;
            state.pausing.retain(|(until, waker)| {
                let goes_on = *until > now;
                if !goes_on {
                    waker.wake_by_ref();
                }
                goes_on
            });
            if let Some(next) = state.pausing.iter().map(|&(until, _)| until).min() {
                self.arm(state, next);
            }
        }
    }
}

/// The last multiple of `grid` after `origin` that is not later than `at`.
fn on_grid(origin: Instant, at: Instant, grid: Duration) -> Instant {
    let beyond = at.saturating_duration_since(origin).as_nanos() % grid.as_nanos();
    at - Duration::from_nanos(u64::try_from(beyond).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Driver, block_on};

    const GRID: Duration = Duration::from_micros(100);

    #[test]
    fn pauses_end_on_the_grid() {
        let origin = Instant::now();
        for (at, end) in [(0, 0), (99, 0), (100, 100), (101, 100), (1_234_567, 1_234_500)] {
            let micros = |n| origin + Duration::from_micros(n);
            assert_eq!(on_grid(origin, micros(at), GRID), micros(end), "{at}");
        }
    }

    /// Many pauses of several lengths at once, each over in time, again and again.
    #[test]
    fn everyone_who_pauses_goes_on() {
        for driver in [Driver::Poll, Driver::Ring] {
            let all = block_on(driver, async {
                let ticker = Ticker::start(GRID).unwrap();
                let tasks: Vec<_> = (1..50)
                    .map(|n: u64| {
                        let ticker = Rc::clone(&ticker);
                        tokio::task::spawn_local(async move {
                            for turn in 0..20 {
                                let length = Duration::from_micros(n * 37 % 900 + turn * 10);
                                let began = Instant::now();
                                ticker.pause(length).await;
                                assert!(began.elapsed() + GRID >= length, "{length:?}");
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    let limit = Duration::from_secs(20);
                    tokio::time::timeout(limit, task).await.expect("nobody waits on").unwrap();
                }
                assert!(ticker.state.borrow().pausing.is_empty());
            });
            // A sandbox may have no ring.
            assert!(all.is_ok() || driver == Driver::Ring);
        }
    }
}
