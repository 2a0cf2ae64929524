//! The way of a packet, in verbs. Start here.
//!
//! | hook | body |
//! |---|---|
//! | uplink, driver | [`driver::meet`]: known flows into their endpoint, early drops, all else to the next line |
//! | uplink, ingress | [`from_world`]: published ports, and answers to masqueraded flows |
//! | uplink, egress | [`to_world`]: masquerade, answers from published ports, the leak guard |
//! | endpoint's port, ingress | [`shortcut`]: known flows out by the uplink, or into another endpoint, at once; all else to the bridge |
//! | bridge, ingress | [`from_endpoint`]: who may talk to whom; published ports asked for by endpoints |
//!
//! Before the first, second and fourth stands the fast path ([`fast`]), which takes the plain packets of established
//! flows and leaves all others to the bodies named here, untouched.

use datapath_common::{
    family::{Family as _, V4, V6},
    reason::Reason,
    tuple::Direction,
};

use crate::{
    bpf, driver, fast,
    flow::{self, Tier},
    forward, guard,
    maps::Maps,
    nat::{fragment, hairpin, icmp_error, masquerade, nat64::Across, own, publish, rewrite},
    packet::{Buffered, Packet as _, reshape::Reshape, xdp::Xdp},
    parse::{Kind, Parse, parse},
    report,
};

/// Entry of the program of that name. What it leaves alone is counted where the stack has it.
#[inline(always)]
pub fn uplink_xdp(mut packet: Xdp) -> u32 {
    let done = match packet.ethertype() {
        V4::ETHERTYPE => {
            driver::hurry::<V4>(&mut packet).or_else(|| driver::meet::<V4>(&mut packet))
        }
        V6::ETHERTYPE => {
            driver::hurry::<V6>(&mut packet).or_else(|| driver::meet::<V6>(&mut packet))
        }
        _ => None,
    };
    match done {
        Some(reason) => report::finish(&packet, reason) as u32,
        None => report::go_on(&packet) as u32,
    }
}

/// Entry of the program of that name.
#[inline(always)]
pub fn uplink_ingress<P: Reshape>(mut packet: P) -> i32 {
    let reason = match packet.ethertype() {
        V4::ETHERTYPE => match fast::inward::<P, V4>(&mut packet) {
            Some(reason) => reason,
            None => from_world::<P, V4>(&mut packet),
        },
        V6::ETHERTYPE => match fast::inward::<P, V6>(&mut packet) {
            Some(reason) => reason,
            None => from_world::<P, V6>(&mut packet),
        },
        _ => guard::other(&packet),
    };
    report::finish(&packet, reason)
}

/// Entry of the program of that name.
#[inline(always)]
pub fn uplink_egress<P: Buffered>(mut packet: P) -> i32 {
    if packet.is_handed_over() {
        return report::go_on(&packet);
    }
    let reason = match packet.ethertype() {
        V4::ETHERTYPE => to_world::<P, V4>(&mut packet),
        V6::ETHERTYPE => to_world::<P, V6>(&mut packet),
        _ => Reason::NotIp,
    };
    report::finish(&packet, reason)
}

/// Entry of the program of that name.
#[inline(always)]
pub fn bridge_ingress<P: Reshape>(mut packet: P) -> i32 {
    // An endpoint that is master of its own network can set the mark as well as we: it says nothing here.
    packet.is_handed_over();
    let reason = match packet.ethertype() {
        V4::ETHERTYPE => from_endpoint::<P, V4>(&mut packet),
        V6::ETHERTYPE => from_endpoint::<P, V6>(&mut packet),
        _ => guard::other(&packet),
    };
    report::finish(&packet, reason)
}

/// Entry of the program of that name. What it does not send on itself is counted where the bridge has it.
#[inline(always)]
pub fn veth_ingress<P: Buffered>(mut packet: P) -> i32 {
    if packet.has_vlan() {
        return report::go_on(&packet);
    }
    let sent = match packet.ethertype() {
        V4::ETHERTYPE => {
            fast::outward::<P, V4>(&mut packet).or_else(|| shortcut::<P, V4>(&mut packet))
        }
        V6::ETHERTYPE => {
            fast::outward::<P, V6>(&mut packet).or_else(|| shortcut::<P, V6>(&mut packet))
        }
        _ => None,
    };
    match sent {
        Some(reason) => report::finish(&packet, reason),
        None => report::go_on(&packet),
    }
}

// Verifier: each family's body is a function of its own, so that the two do not share 512 bytes of stack.
#[inline(never)]
fn from_world<P: Reshape, F: Across>(packet: &mut P) -> Reason {
    report::reason(arrive::<P, F>(packet))
}

#[inline(always)]
fn arrive<P: Reshape, F: Across>(packet: &mut P) -> Result<Reason, Reason> {
    guard::frame(packet).map_err(|refused| guard::for_many::<P, F>(packet, refused))?;
    let work = F::work().ok_or(Reason::TableFull)?;
    parse::<P, F>(packet, &mut work.headers)
        .map_err(|reason| guard::untracked_arriving(&work.headers, reason))?;
    let now = bpf::now();
    match work.headers.kind {
        Kind::LaterFragment => {
            fragment::follow(
                packet,
                &work.headers,
                &mut work.to,
                Direction::ToEndpoint,
                now,
            )?;
            return Ok(Reason::Fragment);
        }
        Kind::Error => return icmp_error::inward(packet, work),
        Kind::Tcp | Kind::Udp | Kind::Query => {}
    }
    let tier = flow::find(&work.headers, Direction::ToEndpoint, 0, &mut work.to, now);
    if tier.is_none() {
        guard::arriving(&work.headers)
            .and_then(|()| publish::open(work, packet.ifindex(), now))
            .map_err(|reason| {
                let reason = own::or_connected(packet, &work.headers, reason);
                fragment::leave_alone(&work.headers, Direction::ToEndpoint, reason, now)
            })?;
    }
    if F::is_foreign(&work.to.dst) {
        return Ok(F::to_endpoint(packet, work, tier.is_none()));
    }
    fragment::remember(&work.headers, Direction::ToEndpoint, &work.to, now);
    rewrite::apply(packet, &work.headers, &work.to)?;
    if !forward::asks_the_stack::<F>(tier)
        && forward::to_endpoint(packet, work, now)?
        && tier == Some(Tier::Established)
    {
        flow::keep_hop(&work.headers, Direction::ToEndpoint, &work.hop);
    }
    Ok(match tier {
        Some(_) => Reason::Flow,
        None => Reason::Publish,
    })
}

#[inline(never)]
fn to_world<P: Buffered, F: Maps + Parse>(packet: &mut P) -> Reason {
    report::reason(leave::<P, F>(packet))
}

#[inline(always)]
fn leave<P: Buffered, F: Maps + Parse>(packet: &mut P) -> Result<Reason, Reason> {
    let work = F::work().ok_or(Reason::TableFull)?;
    if let Err(reason) = parse::<P, F>(packet, &mut work.headers) {
        return Err(guard::unparsed::<P, F>(packet, reason));
    }
    let now = bpf::now();
    if work.headers.kind == Kind::Error {
        return icmp_error::outward(packet, work);
    }
    let network = match guard::leaving(&work.headers) {
        Err(Reason::NotOurs) if own::is_concerned(&work.headers) => {
            return own::leave(packet, work, now);
        }
        whose => whose?,
    };
    if work.headers.kind == Kind::LaterFragment {
        fragment::follow(
            packet,
            &work.headers,
            &mut work.to,
            Direction::FromEndpoint,
            now,
        )?;
        return Ok(Reason::Fragment);
    }
    let mut reason = Reason::Flow;
    let uplink = packet.ifindex();
    if flow::find(
        &work.headers,
        Direction::FromEndpoint,
        uplink,
        &mut work.to,
        now,
    )
    .is_none()
    {
        masquerade::open(packet, work, network, now)?;
        reason = Reason::Masquerade;
    }
    fragment::remember(&work.headers, Direction::FromEndpoint, &work.to, now);
    rewrite::apply(packet, &work.headers, &work.to)?;
    if forward::is_allowed::<F>() {
        forward::note_hop(packet, work, now);
    }
    Ok(reason)
}

#[inline(never)]
fn shortcut<P: Buffered, F: Maps + Parse>(packet: &mut P) -> Option<Reason> {
    if !forward::is_allowed::<F>() {
        return None;
    }
    let work = F::work()?;
    parse::<P, F>(packet, &mut work.headers).ok()?;
    let now = bpf::now();
    if forward::hop(packet, work, now).is_none() {
        return hairpin::shortcut(packet, work, now);
    }
    let uplink = work.hop.uplink;
    let tier = flow::find(
        &work.headers,
        Direction::FromEndpoint,
        uplink,
        &mut work.to,
        now,
    )?;
    if tier == Tier::Established {
        flow::keep_hop(&work.headers, Direction::FromEndpoint, &work.hop);
    }
    let sent = rewrite::apply(packet, &work.headers, &work.to)
        .and_then(|()| forward::to_hop(packet, &work.headers, &work.hop));
    Some(sent.err().unwrap_or(Reason::Flow))
}

#[inline(never)]
fn from_endpoint<P: Reshape, F: Across>(packet: &mut P) -> Reason {
    report::reason(admit::<P, F>(packet))
}

#[inline(always)]
fn admit<P: Reshape, F: Across>(packet: &mut P) -> Result<Reason, Reason> {
    guard::frame(packet).map_err(|refused| guard::for_many::<P, F>(packet, refused))?;
    let work = F::work().ok_or(Reason::TableFull)?;
    parse::<P, F>(packet, &mut work.headers)
        .map_err(|reason| guard::untracked_endpoint(packet, &work.headers, reason))?;
    let later = work.headers.kind == Kind::LaterFragment;
    let network = match guard::endpoint(packet, &work.headers) {
        Err(Reason::NotOurs) if later => {
            return Err(fragment::outward(packet, &work.headers, bpf::now()));
        }
        whose => whose?,
    };
    hairpin::turn(packet, work, network)
}
