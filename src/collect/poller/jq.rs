//! Filters and reshaping in jq.
//!
//! jq rather than CEL: it puts out any number of objects where an expression of CEL has one value, its programs are known
//! from the command line, and people can try them there on an answer that they saved. It can loop; so a program has a
//! time, after which its API waits until it has ended, and the number of its outputs is bounded.
//!
//! # Invariants
//! - A program is compiled once. It sees its element and nothing else: no environment, no files, no end of the process.
//! - Nothing here is stopped by force: whoever runs it does so on a thread that may be lost.

use std::fmt;

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data};
use jaq_json::{Val, read};
use serde_json::Value;

/// A program.
pub struct Jq(jaq_core::Filter<data::JustLut<Val>>);

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jq")
    }
}

impl Jq {
    /// Compiles a program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        // The environment may hold secrets, and events leave the host.
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).filter(|it| it.0 != "env");
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| format!("it cannot be read: {:?}", errors.into_iter().map(|it| it.1).next()))?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let unknown = errors.into_iter().flat_map(|it| it.1).map(|(name, _)| name.to_owned());
            format!("it names what is not known: {}", unknown.collect::<Vec<_>>().join(", "))
        })?;
        Ok(Self(filter))
    }

    /// Gives what the program puts out for an element to `each`, until that says no more.
    ///
    /// # Errors
    /// What the program says went wrong.
    pub fn run(&self, element: &Value, mut each: impl FnMut(Value) -> bool) -> Result<(), String> {
        let input = read::parse_single(element.to_string().as_bytes()).map_err(|err| err.to_string())?;
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        for output in self.0.id.run((ctx, input)) {
            let output = output.map_err(|err| match err.get_err() {
                Ok(err) => err.to_string(),
                Err(_) => "it calls halt, or breaks out of what is not there".to_owned(),
            })?;
            let value = serde_json::from_str(&output.to_string())
                .map_err(|err| format!("it puts out what is no JSON ({err})"))?;
            if !each(value) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(program: &str, input: &Value) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        Jq::new(program)?.run(input, |it| {
            all.push(it);
            true
        })?;
        Ok(all)
    }

    #[test]
    fn programs_reshape_filter_and_multiply() {
        let input = json!({ "a": [{ "n": 1 }, { "n": 2 }], "s": "x\u{1F600}" });
        assert_eq!(run(".a[] | select(.n > 1) | {m: .n}", &input), Ok(vec![json!({ "m": 2 })]));
        assert_eq!(run("empty", &input), Ok(vec![]));
        assert_eq!(run(".s", &input), Ok(vec![json!("x\u{1F600}")]));
        assert_eq!(run("18446744073709551615, 1.5", &input), Ok(vec![json!(u64::MAX), json!(1.5)]));
    }

    #[test]
    fn what_is_wrong_is_said_and_ends_nothing_else() {
        assert!(run(".a[", &json!({})).unwrap_err().contains("cannot be read"));
        assert!(run("nothing_of_that_name", &json!({})).unwrap_err().contains("nothing_of_that_name"));
        assert!(run(".a | error(\"no\")", &json!({ "a": 1 })).unwrap_err().contains("no"));
        assert!(run("halt", &json!({})).unwrap_err().contains("halt"), "the process does not end");
        assert!(run("env", &json!({})).is_err(), "the environment is not for programs");
        assert!(run("nan", &json!({})).is_err() || run("nan", &json!({})) == Ok(vec![Value::Null]));
    }

    #[test]
    fn no_more_is_put_out_than_is_asked_for() {
        let mut left = 3;
        let endless = Jq::new("repeat(1)").unwrap();
        endless
            .run(&Value::Null, |_| {
                left -= 1;
                left > 0
            })
            .unwrap();
        assert_eq!(left, 0);
    }
}
