//! Values of the attributes that say what is run, with which arguments and variables.
//!
//! As [`super::values`], of which these are a part.

use super::draft::{Draft, Fault};
use super::lines::{Op, Word};
use super::values::{Done, Given, broken_fault};
use super::world::World;
use crate::config::location::Spanned;
use crate::config::values::check_variable_name;

pub(super) fn read_server(draft: &mut Draft, given: &Given<'_>, world: &mut World<'_>) -> Done {
    let path = given.first_word();
    if let Some(fault) = world.machine.program_fault(None, path) {
        return broken_fault(fault);
    }
    if !path.starts_with('/') {
        return Err(Fault::Refused(format!("{path} is not an absolute path, such as /usr/sbin/in.ftpd")));
    }
    draft.server = Some(path.to_owned());
    Ok(())
}

pub(super) fn read_server_args(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.require_some()?;
    given.before_comment(draft, "passes the words to the program");
    note_quotes(draft, given);
    draft.server_args = Some(given.all_texts());
    Ok(())
}

/// Says that quotation marks and backslashes have no meaning.
fn note_quotes(draft: &mut Draft, given: &Given<'_>) {
    let pair = |text: &str, mark| text.starts_with(mark) != text.ends_with(mark);
    let odd = |word: &&Word| pair(&word.text, '"') || pair(&word.text, '\'') || word.text.ends_with('\\');
    if let Some(word) = given.words.iter().find(odd) {
        let message = format!("xinetd knows no quoting: {} is a value of its own, with its quotation marks", word.text);
        draft.add_note(&given.at.moved_to(word.mark), message);
    }
}

pub(super) fn read_env(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    if given.op == Op::Remove {
        return broken_fault("env takes = and +=, but not -=");
    }
    note_quotes(draft, given);
    let mut values = Vec::new();
    for word in given.words {
        let Some((name, value)) = word.text.split_once('=') else {
            return broken_fault(format!("{:?} has no =; expected NAME=VALUE, without spaces", word.text));
        };
        let at = given.at.moved_to(word.mark);
        match check_variable_name(name) {
            Ok(name) => values.push(Spanned { value: (name, value.to_owned()), at }),
            Err(message) => draft.add_note(&at, message),
        }
    }
    draft.env.add_line(given.op, values);
    Ok(())
}

pub(super) fn read_pass_env(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let mut values = Vec::new();
    for word in given.words {
        let at = given.at.moved_to(word.mark);
        match check_variable_name(&word.text) {
            Ok(name) => {
                if given.op != Op::Remove && std::env::var_os(&name).is_none() {
                    draft.add_note(
                        &at,
                        format!("{name} is not in the environment of the daemon, so nothing is passed on"),
                    );
                }
                values.push(Spanned { value: name, at });
            }
            Err(message) => draft.add_note(&at, message),
        }
    }
    draft.pass_env.add_line(given.op, values);
    Ok(())
}
