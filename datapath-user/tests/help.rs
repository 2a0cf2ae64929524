//! What every command says of itself.

use clap::{Command, CommandFactory as _};
use datapath_user::cli::Cli;

/// The help of a command and of those below it, one after the other.
fn help(command: &Command, path: &str, text: &mut String) {
    let name = format!("{path} {}", command.get_name());
    let name = name.trim_start();
    let mut shown = command.clone().term_width(100).bin_name(name);
    let shown = shown.render_long_help().to_string();
    assert!(
        shown.contains("Examples:\n  datapath "),
        "{name}: no example"
    );
    text.push_str(&format!("# {name}\n\n{}\n\n", shown.trim_end()));
    let inner = command.get_subcommands();
    for command in inner.filter(|command| command.get_name() != "help") {
        help(command, name, text);
    }
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let mut text = String::new();
    let mut cli = Cli::command();
    cli.build();
    help(&cli, "", &mut text);
    insta::assert_snapshot!(text);
}

/// What the examples show is what the command line takes.
#[test]
fn every_example_is_understood() {
    fn examples(command: &Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let lines = help.lines().map(str::trim);
        found.extend(
            lines
                .filter(|line| line.starts_with("datapath "))
                .map(str::to_owned),
        );
        command
            .get_subcommands()
            .for_each(|command| examples(command, found));
    }
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 25, "{found:?}");
    for example in found {
        let words = example
            .split(" > ")
            .next()
            .unwrap_or_default()
            .split_whitespace();
        if let Err(error) = Cli::command().try_get_matches_from(words) {
            panic!("{example}: {error}");
        }
    }
}
