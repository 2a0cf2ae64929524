//! What is left when the run ends, however it ends: Ctrl-C, a kill, a panic, or the end of the test; and processes that
//! end with the test.

use std::process::{Child, Command, Stdio};

/// A shell in a session of its own that waits for the end of this process, or of this value, and then runs
/// its script. The kernel closes the pipe it waits on, so nothing that ends this process can prevent it.
#[derive(Debug)]
pub(crate) struct Cleanup(Child);

impl Cleanup {
    /// Stands by with a shell script. Errors in it are passed over: it must clean up what there is.
    pub(crate) fn stand_by(script: &str) -> Self {
        let script = format!("trap '' INT TERM HUP\nread -r line\n{script}");
        let child = Command::new("setsid")
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the shell that cleans up");
        Self(child)
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// A process that is ended with this value.
#[derive(Debug)]
pub struct Passing(Child);

impl From<Child> for Passing {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
