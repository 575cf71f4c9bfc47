//! From an answer to events: split, reshape, leave out, spread over times, turn into numbers, flatten. Pure.
//!
//! # Invariants
//! - Every element of an array is an event, not only the first; what is beyond the bound is counted.
//! - An answer of another shape than the mapping says is an error with what was found, never no events.

use outrider_protocol::collect::apis::{Mapping, TimeFormat};
use serde_json::{Map, Value};

use super::jq::Jq;
use super::shape;
use crate::model::Time;

/// A mapping whose program is compiled.
#[derive(Debug)]
pub struct Mapper {
    mapping: Mapping,
    jq: Option<Jq>,
}

/// What became of an answer, or of several.
#[derive(Debug, Default, PartialEq)]
pub struct Mapped {
    /// Fields with their time, where a field has it.
    pub events: Vec<(Option<Time>, Map<String, Value>)>,
    /// Elements of the array that was split.
    pub elements: u64,
    /// Events beyond the bound.
    pub beyond: u64,
}

impl Mapper {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with its program.
    pub fn new(mapping: &Mapping) -> Result<Self, String> {
        let jq = mapping.jq.as_deref().map(Jq::new).transpose()?;
        Ok(Self { mapping: mapping.clone(), jq })
    }

    /// Whether it may take long.
    #[must_use]
    pub fn may_loop(&self) -> bool {
        self.jq.is_some()
    }

    /// The events of an answer, `most` of them at most.
    ///
    /// # Errors
    /// When the answer has another shape, or the program fails.
    pub fn map(&self, answer: Value, most: usize) -> Result<Mapped, String> {
        let mut mapped = Mapped::default();
        for element in self.elements(answer)? {
            mapped.elements += 1;
            match &self.jq {
                None => self.event(element, most, &mut mapped)?,
                Some(jq) => {
                    let mut failed = None;
                    jq.run(&element, |output| {
                        failed = self.event(output, most, &mut mapped).err();
                        // Without this an endless program would be counted for ever.
                        failed.is_none() && mapped.beyond <= most as u64
                    })
                    .map_err(|err| format!("the program `jq` fails: {err}"))?;
                    failed.map_or(Ok(()), Err)?;
                }
            }
        }
        Ok(mapped)
    }

    fn elements(&self, answer: Value) -> Result<Vec<Value>, String> {
        let Some(split) = &self.mapping.split else {
            return match answer {
                // What a program does with it is its own.
                answer if self.jq.is_some() => Ok(vec![answer]),
                Value::Array(all) => Ok(all),
                answer => Ok(vec![answer]),
            };
        };
        match shape::take(answer, split) {
            Ok(Value::Array(all)) => Ok(all),
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(object @ Value::Object(_)) => Ok(vec![object]),
            Ok(other) => Err(format!("`{split}` is {}; expected an array", shape::kind(&other))),
            Err(_) if self.mapping.split_may_miss => Ok(Vec::new()),
            Err(found) => Err(format!("there is no field `{split}`: {found}")),
        }
    }

    fn event(&self, element: Value, most: usize, into: &mut Mapped) -> Result<(), String> {
        let Value::Object(mut fields) = element else {
            let found = shape::kind(&element);
            return Err(format!(
                "an event would be {found}; expected an object (`split` or `jq` can make one)"
            ));
        };
        shape::leave_out(&mut fields, &self.mapping.drop);
        let spread = match &self.mapping.history {
            Some(history) => shape::spread(fields, history),
            None => vec![(None, fields)],
        };
        for (time, mut fields) in spread {
            if into.events.len() >= most {
                into.beyond += 1;
                continue;
            }
            shape::to_numbers(&mut fields, &self.mapping.numbers);
            let own = self.mapping.time.as_ref().map(|(field, format)| time_in(&fields, field, format));
            let time = own.transpose()?.or(time);
            if self.mapping.flatten {
                fields = shape::flat(fields);
            }
            into.events.push((time, fields));
        }
        Ok(())
    }
}

fn time_in(fields: &Map<String, Value>, field: &str, format: &TimeFormat) -> Result<Time, String> {
    let value =
        shape::at(fields, field).ok_or_else(|| format!("there is no field `{field}` for the time"))?;
    shape::time(value, format).ok_or_else(|| format!("`{field}` is no time as `format` says: {value}"))
}

#[cfg(test)]
mod tests {
    use outrider_protocol::collect::apis::History;
    use serde_json::json;

    use super::*;

    fn map(mapping: &Mapping, answer: Value) -> Result<Vec<Value>, String> {
        let mapped = Mapper::new(mapping)?.map(answer, 10)?;
        Ok(mapped.events.into_iter().map(|it| it.1.into()).collect())
    }

    #[test]
    fn every_element_is_an_event() {
        let mapping = Mapping { split: Some("_embedded._instances".into()), ..Mapping::default() };
        let answer = json!({ "_embedded": { "_instances": [{ "a": 1 }, { "a": 2 }] } });
        assert_eq!(map(&mapping, answer), Ok(vec![json!({ "a": 1 }), json!({ "a": 2 })]));
        let whole = Mapping::default();
        assert_eq!(map(&whole, json!({ "a": [1] })), Ok(vec![json!({ "a": [1] })]));
        assert_eq!(map(&whole, json!([{ "a": 1 }, { "b": 1 }])).unwrap().len(), 2, "an array at the top too");
    }

    #[test]
    fn another_shape_is_an_error_that_says_what_was_found() {
        let mut mapping = Mapping { split: Some("alert".into()), ..Mapping::default() };
        let error = map(&mapping, json!({ "error": "x", "code": 3 })).unwrap_err();
        assert!(error.contains("`alert`") && error.contains("error") && error.contains("code"), "{error}");
        assert!(map(&mapping, json!({ "alert": "no" })).unwrap_err().contains("a text"));
        assert!(map(&mapping, json!({ "alert": [3] })).unwrap_err().contains("a number"));
        assert_eq!(map(&mapping, json!({ "alert": null })), Ok(vec![]));
        mapping.split_may_miss = true;
        assert_eq!(map(&mapping, json!({})), Ok(vec![]));
    }

    #[test]
    fn too_many_are_counted() {
        let mapper = Mapper::new(&Mapping::default()).unwrap();
        let mapped = mapper.map(Value::Array(vec![json!({}); 25]), 10).unwrap();
        assert_eq!((mapped.events.len(), mapped.beyond, mapped.elements), (10, 15, 25));
        let endless = Mapping { jq: Some("repeat({})".into()), ..Mapping::default() };
        let mapped = Mapper::new(&endless).unwrap().map(json!({}), 10).unwrap();
        assert_eq!(mapped.events.len(), 10);
    }

    #[test]
    fn all_together_as_an_ecs_needs_it() {
        let history = History {
            fields: vec!["*Current".into(), "*CurrentL1".into()],
            time: "t".into(),
            format: TimeFormat::UnixSeconds,
        };
        let mapping = Mapping {
            drop: vec!["_links".into()],
            history: Some(history),
            numbers: vec!["numDisks".into(), "*Current_*".into()],
            ..Mapping::default()
        };
        let answer = json!({
            "name": "n", "numDisks": "12", "_links": { "self": 1 },
            "cpuCurrent": [{ "t": "100", "Percent": "1.5" }, { "t": "200", "Percent": "2.5" }],
            "ioCurrentL1": { "read": [{ "t": "200", "Bandwidth": "7" }] },
        });
        let mapped = Mapper::new(&mapping).unwrap().map(answer, 10).unwrap();
        let seconds = |it: i64| Some(Time::from_unix_nanos(it * 1_000_000_000));
        assert_eq!(mapped.events[0].0, seconds(100));
        assert_eq!(
            Value::from(mapped.events[0].1.clone()),
            json!({ "name": "n", "numDisks": 12, "cpuCurrent_Percent": 1.5 })
        );
        assert_eq!(mapped.events[1].0, seconds(200));
        assert_eq!(
            Value::from(mapped.events[1].1.clone()),
            json!({
                "name": "n", "numDisks": 12, "cpuCurrent_Percent": 2.5, "ioCurrentL1_read_Bandwidth": "7",
            })
        );
    }

    #[test]
    fn the_time_is_that_of_a_field() {
        let time = Some(("at.x".into(), TimeFormat::Rfc3339));
        let mapping = Mapping { time, flatten: true, ..Mapping::default() };
        let mapper = Mapper::new(&mapping).unwrap();
        let mapped = mapper.map(json!({ "at": { "x": "2025-11-29T06:01:01.5Z" } }), 1).unwrap();
        assert_eq!(mapped.events[0].0, Some(Time::from_unix_nanos(1_764_396_061_500_000_000)));
        assert_eq!(mapped.events[0].1["at.x"], "2025-11-29T06:01:01.5Z");
        assert!(mapper.map(json!({}), 1).unwrap_err().contains("`at.x`"));
        assert!(mapper.map(json!({ "at": { "x": "yesterday" } }), 1).unwrap_err().contains("yesterday"));
    }
}
