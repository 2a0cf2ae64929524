//! A kill at each call of a change.

use datapath_tests::faults::kill_at;

#[test]
fn killed_at_every_bpf_call_of_a_change() {
    let killed = kill_at("bpf", 1..1000);
    println!("killed at each of {killed} calls");
    assert!(killed > 20, "{killed}");
}

#[test]
fn killed_at_socket_calls_of_a_change() {
    // Those of the API and those of netlink: the service looks at the network all the time.
    let killed = kill_at("sendto,recvfrom,recvmsg,sendmsg", 1..20);
    println!("killed at each of {killed} calls");
    assert!(killed > 1, "{killed}");
}
