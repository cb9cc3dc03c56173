//! Workers: what takes long is done on every core.

use std::thread;

/// Cedar wants headroom.
const STACK: usize = 8 * 1024 * 1024;

/// Has `work` done by as many threads as there are cores, and by this one; each takes of
/// what there is to do until nothing is left.
pub(super) fn share(work: impl Fn() + Copy + Send) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            // One that cannot start leaves its work to the others, and at last to us.
            let _ = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, work);
        }
    });
    work();
}
