//! What a packet that is none of the datapath's pays in its programs: the kernel runs a program on one frame many
//! times, and times it. What a program of no work costs in the same way is taken off.

use super::{
    bpf::{self, Code, Kind},
    driver::{mac, pin},
    results::{Better, Figure, Measure},
    stage::{HOST, Stage, WORLD},
};

const ARRIVES: Measure = Measure::new(
    "a segment of the host's own that arrives",
    "ns",
    Better::Less,
);
const LEAVES: Measure = Measure::new(
    "a segment of the host's own that leaves",
    "ns",
    Better::Less,
);
/// `TC_ACT_UNSPEC`, which is `TCX_NEXT`: on to the next program, and to the stack.
const GO_ON: i32 = -1;

/// Measures the uplink's programs.
pub(super) fn measure(stage: &Stage, repeat: u32) -> Vec<Figure> {
    let macs = [mac(&stage.lab.host, "eth0"), mac(&stage.lab.lan, "eth0")];
    let (out, back) = ((HOST, 22), (WORLD, 40_000));
    let arriving = segment([macs[1], macs[0]], back, out);
    let leaving = segment(macs, out, back);
    [
        (ARRIVES, "uplink_ingress", arriving),
        (LEAVES, "uplink_egress", leaving),
    ]
    .into_iter()
    .map(|(measure, program, frame)| measure.figure(cost(stage, program, frame, repeat)))
    .collect()
}

fn cost(stage: &Stage, program: &str, frame: Vec<u8>, repeat: u32) -> f64 {
    let (id, index) = (stage.program(program, "eth0"), stage.ifindex("eth0"));
    stage.lab.host.enter(move || {
        pin(0);
        let ours = bpf::by_id(id.expect("an uplink has it")).expect("the program");
        let mut code = Code::default();
        code.end(GO_ON);
        let nothing = bpf::load(Kind::Classifier, &code, false).expect("a program of no work");
        let time = |program| {
            let (verdict, time) =
                bpf::time(program, Kind::Classifier, index, &frame, repeat).expect("runs");
            assert_eq!(verdict, GO_ON, "the packet is none of ours");
            f64::from(time)
        };
        time(&ours) - time(&nothing)
    })
}

/// A segment of an established connection.
fn segment(macs: [[u8; 6]; 2], from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let address = |address: &str| -> std::net::Ipv4Addr { address.parse().expect("an address") };
    let builder = etherparse::PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(address(from.0).octets(), address(to.0).octets(), 64)
        .tcp(from.1, to.1, 1, 1024)
        .ack(1);
    let payload = [0; 64];
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut frame, &payload)
        .expect("writing to memory");
    frame
}
