//! How a builtin ends: its exit status, or why it failed. All builtins return it; [`super::run_builtin`] reports
//! it.

use std::fmt::Display;
use std::io;

use crate::exit;

/// Why a builtin failed.
#[derive(Debug)]
pub(super) struct BuiltinFailure {
    pub status: u8,
    pub message: String,
}

impl BuiltinFailure {
    pub(super) fn new(status: u8, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }

    pub(super) fn system(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::new(exit::SYSTEM, format!("{operation}: {error}"))
    }
}

/// The exit status of a builtin, or why it failed.
pub(super) type BuiltinResult = Result<u8, BuiltinFailure>;
