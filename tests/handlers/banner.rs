//! `banner`: the text that comes before the handler.

use crate::support::{Daemon, ask_text, services};

#[test]
fn banner_comes_before_the_first_output_of_the_handler() {
    let ([port], table) = services([("cat", "banner: \"welcome\\r\\n\", program: /bin/cat")]);
    let _daemon = Daemon::start(&table);
    assert_eq!(ask_text(port, "hello\n"), "welcome\r\nhello\n");
}
