//! Texts that are put together at run time, for the tests that check all of them.

use super::batch::Statement;

/// Every form of a statement about a batch: `call` makes it of these texts.
pub(crate) fn of_statement(call: &str, texts: &[String]) -> Vec<String> {
    let leak = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
    let texts: Vec<_> = texts.iter().map(leak).collect();
    let statement = match (call, &*texts) {
        ("Statement::insert", [head, names, letters]) => Statement::insert(head, names, letters),
        ("Statement::insert_or", [head, names, letters, tail]) => {
            Statement::insert_or(head, names, letters, tail)
        }
        ("Statement::reading", [head, letters, tail]) => Statement::reading(head, letters, tail),
        ("Statement::among", [head]) => Statement::among(head),
        other => panic!("what does this make? {other:?}"),
    };
    statement.alone()
}
