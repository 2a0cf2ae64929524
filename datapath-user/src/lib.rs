//! The service and the command line of datapath: one library, so that both read the same maps in the same
//! way.

pub mod model;
