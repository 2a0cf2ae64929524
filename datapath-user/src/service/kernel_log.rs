//! What the programs have to say, in the service's own log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use datapath_common::reason::Reason;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::kernel::interface;

/// Reads it for as long as the service runs.
pub(super) fn read(ebpf: &mut Ebpf) -> anyhow::Result<()> {
    let logger = EbpfLogger::init_with_logger(ebpf, Words)?;
    // SAFETY: the logger owns its ring buffer's descriptor, and keeps it until both are dropped.
    let mut logger = unsafe { AsyncFd::register(logger) }?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}

/// Puts the programs' numbers, a reason's and an interface's, into words.
struct Words;

impl log::Log for Words {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let mut numbers = text.split(' ').map(str::parse::<u32>);
        let (Some(Ok(reason)), Some(Ok(ifindex))) = (numbers.next(), numbers.next()) else {
            return warn!("the programs say: {}", text.escape_debug());
        };
        let interface = interface::name_or_number(ifindex);
        match Reason::from_raw(reason) {
            Some(reason) => warn!(
                "packets are dropped on {interface}, {}: {} `datapath stats` counts them",
                reason.name(),
                reason.meaning()
            ),
            None => warn!("packets are dropped on {interface}, reason {reason}"),
        }
    }

    fn flush(&self) {}
}
