//! `explain SERVICE ADDRESS`: would this client be let in, and why or why not? Fails if he would not.

use clap::Args;

use super::connection::{Daemon, read};
use super::output::{Format, Output};
use super::{Failure, Request};
use crate::api::{Explanation, Question};
use crate::ctl::render::grid::{Cell, Grid, Side, Tone};
use crate::ctl::render::table::age;

/// The arguments.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The service
    service: String,
    /// The client: an IP address, or uid:N for a local user
    address: String,
}

impl Explain {
    pub(super) fn run(self, daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
        let address = self.address.clone();
        let result = daemon.ask(&Request::Explain { service: self.service, address: self.address })?;
        let explanation: Explanation = read(result.clone())?;
        output.show(result, |_| Ok(questions(&explanation)))?;
        if output.format == Format::Table {
            output.grid(&verdict(&explanation, &address))?;
        }
        if explanation.admitted { Ok(()) } else { Err(Failure::quiet()) }
    }
}

fn questions(explanation: &Explanation) -> Grid {
    let mut grid = Grid::new(&[("QUESTION", Side::Left), ("ANSWER", Side::Left), ("RULE", Side::Left)]);
    for question in &explanation.questions {
        grid.row([(&question.question).into(), answer(question), (&question.rule).into()]);
    }
    grid
}

fn answer(question: &Question) -> Cell {
    match (question.yes, question.retry_seconds) {
        (true, _) => Cell::new("yes", Tone::Good),
        (false, None) => Cell::new("no", Tone::Bad),
        (false, Some(seconds)) => Cell::new(format!("no, for {}", age(seconds)), Tone::Bad),
    }
}

fn verdict(explanation: &Explanation, address: &str) -> Grid {
    let Explanation { service, source, dry_run, questions, .. } = explanation;
    let who = if source == address { address.to_owned() } else { format!("{address}, counted as {source},") };
    let first = questions.iter().find(|question| !question.yes).map_or("", |question| &question.question);
    let (text, tone) = match (explanation.admitted, dry_run) {
        (true, false) => (format!("{who} would be let in to {service}"), Tone::Good),
        (true, true) => (format!("{who} would be let in to {service} by dry_run alone: {first}"), Tone::Warning),
        (false, _) => (format!("{who} would be refused by {service}: {first}"), Tone::Bad),
    };
    let mut grid = Grid::new(&[("", Side::Left)]);
    grid.row([Cell::new(text, tone)]);
    grid
}
