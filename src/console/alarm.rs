//! The clock's next second, as one wake-up. The runtime's own timers wake once more on the way to
//! anything further off than 64 ms: half of what an idle console would cost.

use std::io::{Error, ErrorKind};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use crate::model::Span;

/// Rings once, when it was told to.
/// The runtime takes it for the end of a pipe: something that can be read from time to time.
pub(super) struct Alarm(Receiver);

impl Alarm {
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Receiver::from_owned_fd_unchecked(timer).map(Self)
    }

    /// Rings after so long, and not when it was told to before.
    pub(super) fn set(&self, after: Span) -> std::io::Result<()> {
        // Nothing at all would stop it.
        let after = after.std().max(std::time::Duration::from_millis(1));
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec::try_from(after).map_err(Error::other)?,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits for it.
    pub(super) async fn rings(&self) -> std::io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0_u8; 8]) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}
