//! What is written about the program is what it does: manual pages, README, examples, commands, messages.

#[path = "../support/mod.rs"]
mod support;

mod documented_commands;
mod manual_pages;
mod messages_documented;
