//! `explain SERVICE ADDRESS`: tells whether the service would accept this client, and why. Fails if it would not.

use clap::Args;

use super::connection::{DaemonClient, parse_result};
use super::failure::Failure;
use super::output::Output;
use crate::api::{Explanation, Question, Request};
use crate::ctl::render::grid::{Cell, Grid, Side, Tone};
use crate::ctl::render::table::format_age;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The name of the service
    service: String,
    /// The client: an IP address, or uid:N for a local user
    address: String,
}

impl ExplainArgs {
    pub(super) fn run(self, daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
        let Self { service, address } = self;
        let result = daemon.request(&Request::Explain { service, address: address.clone() })?;
        let explanation: Explanation = parse_result(&result)?;
        output.print_result(&result, |output| {
            output.print_grid(&questions_grid(&explanation))?;
            let (text, tone) = verdict(&explanation, &address);
            output.print_line(&text, tone)
        })?;
        if explanation.admitted { Ok(()) } else { Err(Failure::quiet()) }
    }
}

fn questions_grid(explanation: &Explanation) -> Grid {
    let mut grid = Grid::new(&[("QUESTION", Side::Left), ("ANSWER", Side::Left), ("RULE", Side::Left)]);
    for question in &explanation.questions {
        grid.row([(&question.question).into(), answer_cell(question), (&question.rule).into()]);
    }
    grid
}

fn answer_cell(question: &Question) -> Cell {
    match (question.yes, question.retry_seconds) {
        (true, _) => Cell::new("yes", Tone::Good),
        (false, None) => Cell::new("no", Tone::Bad),
        (false, Some(seconds)) => Cell::new(format!("no, for {}", format_age(seconds)), Tone::Bad),
    }
}

fn verdict(explanation: &Explanation, address: &str) -> (String, Tone) {
    let Explanation { service, source, dry_run, questions, .. } = explanation;
    let client = if source == address { address.to_owned() } else { format!("{address}, counted as {source},") };
    let first = questions.iter().find(|question| !question.yes).map_or("", |question| &question.question);
    match (explanation.admitted, dry_run) {
        (true, false) => (format!("{client} would be let in to {service}"), Tone::Good),
        (true, true) => (format!("{client} would be let in to {service} by dry_run alone: {first}"), Tone::Warning),
        (false, _) => (format!("{client} would be refused by {service}: {first}"), Tone::Bad),
    }
}
