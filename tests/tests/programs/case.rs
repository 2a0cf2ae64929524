//! One frame, one program, and everything that came of it: the action, the bytes, the reason counted.

use std::fmt::Write as _;

use datapath_common::reason::{Outcome, Reason};
use etherparse::SlicedPacket;

use crate::host::{Hook, Host, Ran};

/// `TC_ACT_*` of include/uapi/linux/pkt_cls.h.
pub(crate) const GO_ON: i32 = -1;
pub(crate) const DROP: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;
/// `XDP_*` of include/uapi/linux/bpf.h.
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;
pub(crate) const XDP_REDIRECT: i32 = 4;

/// A frame at a hook, of which something is to be said.
#[must_use = "nothing is tested before something is said of it"]
pub(crate) struct Case<'a> {
    host: &'a Host,
    says: String,
    hook: Hook,
    frame: Vec<u8>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(host: &'a Host, says: &str, hook: Hook, frame: Vec<u8>) -> Self {
        let says = says.to_owned();
        Self {
            host,
            says,
            hook,
            frame,
        }
    }

    /// It is translated, to exactly this, and goes on through the stack.
    pub(crate) fn becomes(self, reason: Reason, expected: impl Into<Vec<u8>>) {
        assert_eq!(reason.outcome(), Outcome::Translate);
        self.check(reason, GO_ON, &expected.into());
    }

    /// It is translated, to exactly this, and sent past the stack.
    pub(crate) fn redirects(self, reason: Reason, expected: impl Into<Vec<u8>>) {
        assert_eq!(reason.outcome(), Outcome::Translate);
        let verdict = match self.hook {
            Hook::Driver => XDP_REDIRECT,
            Hook::Arrives | Hook::Stack | Hook::Leaves | Hook::Bridge | Hook::Port => REDIRECT,
        };
        self.check(reason, verdict, &expected.into());
    }

    /// It is left alone or dropped, as the reason says, and untouched in both cases.
    pub(crate) fn is(self, reason: Reason) {
        let verdict = match reason.outcome() {
            Outcome::Pass => GO_ON,
            Outcome::Drop if self.hook == Hook::Driver => XDP_DROP,
            Outcome::Drop => DROP,
            Outcome::Translate => panic!("say what it becomes"),
        };
        let untouched = self.frame.clone();
        self.check(reason, verdict, &untouched);
    }

    /// It is put back into the queue, untouched, to be looked at again.
    pub(crate) fn waits(self) {
        let untouched = self.frame.clone();
        self.check(Reason::FragmentWaits, REDIRECT, &untouched);
    }

    /// It is dropped, whatever was done to it before.
    pub(crate) fn ends(self, reason: Reason) {
        let ran = self.run(reason);
        assert_eq!(ran.verdict, DROP, "{}", self.says);
    }

    fn check(self, reason: Reason, verdict: i32, expected: &[u8]) {
        let ran = self.run(reason);
        assert!(
            ran.verdict == verdict && ran.frame == expected,
            "{}: at {:?}: action {} for {verdict}\n{}\nin       {}\nout      {}\nexpected {}",
            self.says,
            self.hook,
            ran.verdict,
            difference(&ran.frame, expected),
            explain(&self.frame),
            explain(&ran.frame),
            explain(expected),
        );
    }

    /// It is left to the next program as it came, and not counted.
    pub(crate) fn goes_on(self) {
        let before = self.host.reasons();
        let ran = self.host.run(self.hook, self.frame.clone());
        let after = self.host.reasons();
        let counted = after
            .iter()
            .find(|(reason, count)| **count != before[reason] && !is_background(reason.name()));
        let verdict = match self.hook {
            Hook::Driver => XDP_PASS,
            Hook::Arrives | Hook::Stack | Hook::Leaves | Hook::Bridge | Hook::Port => GO_ON,
        };
        assert!(
            ran.verdict == verdict && ran.frame == self.frame && counted.is_none(),
            "{}: action {}, counted {counted:?}\nin  {}\nout {}",
            self.says,
            ran.verdict,
            explain(&self.frame),
            explain(&ran.frame),
        );
    }

    /// Runs it, and sees that this reason was counted, once by each program that said so.
    fn run(&self, reason: Reason) -> Ran {
        let before = self.host.reasons();
        let ran = self.host.run(self.hook, self.frame.clone());
        let after = self.host.reasons();
        let counted: Vec<_> = after
            .iter()
            .filter(|(reason, count)| **count != before[reason])
            .map(|(reason, count)| (reason.name(), count - before[reason]))
            // The host's own chatter, which is none of ours.
            .filter(|counted| counted.0 == reason.name() || !is_background(counted.0))
            .collect();
        let once = counted.iter().any(|(name, count)| {
            *name == reason.name() && (*count == ran.programs || is_background(name))
        });
        assert!(
            counted.len() == 1 && once,
            "{}: at {:?}: counted {counted:?} for {}\nin  {}\nout {}",
            self.says,
            self.hook,
            reason.name(),
            explain(&self.frame),
            explain(&ran.frame),
        );
        ran
    }
}

/// What neighbour discovery and multicast reports of the lab's own hosts count for.
fn is_background(name: &str) -> bool {
    [
        Reason::NotIp,
        Reason::NotOurs,
        Reason::NotForHost,
        Reason::UntrackedProtocol,
    ]
    .iter()
    .any(|reason| reason.name() == name)
}

/// A frame for people: what another parser makes of it, and its bytes.
pub(crate) fn explain(frame: &[u8]) -> String {
    let mut text = String::new();
    for byte in frame {
        let _ = write!(text, "{byte:02x}");
    }
    match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => {
            let (net, transport) = (packet.net, packet.transport);
            format!("{text}\n         {net:?} {transport:?}")
        }
        Err(error) => format!("{text} ({error})"),
    }
}

fn difference(frame: &[u8], expected: &[u8]) -> String {
    let mut text = format!("{} bytes for {}:", frame.len(), expected.len());
    for (offset, (is, should)) in frame.iter().zip(expected).enumerate() {
        if is != should {
            let _ = write!(text, " @{offset} {is:02x} for {should:02x}");
        }
    }
    text
}
