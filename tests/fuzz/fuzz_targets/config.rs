//! The configuration file.
#![no_main]

use std::path::Path;

use datapath_user::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(Path::new("datapath.toml"), text) {
        datapath_fuzz::is_one_clean_line(&error.to_string());
    }
});
