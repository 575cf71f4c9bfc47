//! Reads the members of a JSON object one by one and collects what is wrong, instead of ending at the first fault.
//! Values stay raw until they are asked for, so that what is passed on keeps its exact text.

use std::fmt;

use outrider_protocol::Raw;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::ConfigFault;

/// How alike two names must be (0–1) for one to be offered in place of the other.
const ALIKE: f64 = 0.8;
/// How much of an unknown name is repeated in a message, in characters.
const NAME_SHOWN: usize = 60;

/// The members of an object in the file's order, also those that stand there twice.
struct Pairs(Vec<(String, Raw)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// One object of the file, of which members are taken until none is left.
pub(crate) struct Members<'a> {
    pointer: String,
    pairs: Vec<(String, Raw)>,
    known: &'a [&'a str],
    faults: &'a mut Vec<ConfigFault>,
}

impl<'a> Members<'a> {
    /// Reads an object. What is no object, and names that are not `known` or stand there twice, are faults.
    pub(crate) fn read(
        pointer: &str,
        text: &str,
        known: &'a [&'a str],
        faults: &'a mut Vec<ConfigFault>,
    ) -> Option<Self> {
        let Ok(Pairs(mut pairs)) = serde_json::from_str(text) else {
            faults.push(ConfigFault::new(pointer, kind(text), "an object"));
            return None;
        };
        let mut seen: Vec<String> = Vec::new();
        pairs.retain(|(name, _)| {
            let place = child(pointer, name);
            if !known.contains(&name.as_str()) {
                faults.push(unknown(&place, name, known));
                return false;
            }
            if seen.contains(name) {
                faults.push(
                    ConfigFault::new(&place, "the field a second time", "each field once")
                        .advise("remove one of them"),
                );
                return false;
            }
            seen.push(name.clone());
            true
        });
        Some(Self { pointer: pointer.to_owned(), pairs, known, faults })
    }

    pub(crate) fn place(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    pub(crate) fn fault(&mut self, fault: ConfigFault) {
        self.faults.push(fault);
    }

    pub(crate) fn faults(&mut self) -> &mut Vec<ConfigFault> {
        self.faults
    }

    /// Takes a member out; `null` counts as missing.
    pub(crate) fn take(&mut self, name: &str) -> Option<Raw> {
        debug_assert!(self.known.contains(&name), "{name} is taken but not known");
        let at = self.pairs.iter().position(|(it, _)| it == name)?;
        let (_, value) = self.pairs.remove(at);
        (value.get() != "null").then_some(value)
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(it, value)| it == name && value.get() != "null")
    }

    /// Takes `true` or `false` out.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?;
        let flag = serde_json::from_str::<bool>(value.get()).ok();
        if flag.is_none() {
            let place = child(&self.pointer, name);
            self.faults.push(ConfigFault::new(&place, kind(value.get()), "true or false"));
        }
        flag
    }

    /// Whether there may be such a member.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.contains(&name)
    }

    /// Takes a text out and checks it with `check`, which says what it found in place of what was expected.
    pub(crate) fn text<T>(
        &mut self,
        name: &str,
        expected: &str,
        check: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let checked = match serde_json::from_str::<String>(value.get()) {
            Ok(text) => check(text),
            Err(_) => Err(kind(value.get()).to_owned()),
        };
        checked
            .map_err(|found| self.faults.push(ConfigFault::new(&child(&self.pointer, name), found, expected)))
            .ok()
    }

    /// Takes a whole number out, and puts it in the place of the usual one.
    pub(crate) fn number_into<T: TryFrom<u64>>(&mut self, name: &str, min: u64, max: u64, place: &mut T) {
        let Some(value) = self.take(name) else { return };
        let number = serde_json::from_str::<u64>(value.get()).ok().filter(|it| (min..=max).contains(it));
        match number.and_then(|it| T::try_from(it).ok()) {
            Some(number) => *place = number,
            None => {
                let is_number = kind(value.get()) == "a number";
                let found = if is_number {
                    value.get().chars().take(40).collect()
                } else {
                    kind(value.get()).to_owned()
                };
                let expected = format!("a whole number from {min} to {max}");
                self.faults.push(ConfigFault::new(&child(&self.pointer, name), found, expected));
            }
        }
    }

    /// As [`Members::text`], for a member that must be there.
    pub(crate) fn needed<T>(
        &mut self,
        name: &str,
        expected: &str,
        check: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            self.faults.push(ConfigFault::new(&child(&self.pointer, name), "nothing", expected));
        }
        self.text(name, expected, check)
    }
}

fn unknown(place: &str, name: &str, known: &[&str]) -> ConfigFault {
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    let fault = ConfigFault::new(place, format!("the unknown field {shown:?}"), "a known one");
    let likeness = |known: &&str| strsim::jaro_winkler(known, name);
    let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(nearest) if likeness(&nearest) >= ALIKE => fault.advise(format!("did you mean {nearest:?}?")),
        _ => fault.advise(format!("known are {}", known.join(", "))),
    }
}

/// The JSON pointer of a member.
pub(crate) fn child(pointer: &str, name: &str) -> String {
    let shown: String = name.chars().take(NAME_SHOWN).collect();
    format!("{pointer}/{}", shown.replace('~', "~0").replace('/', "~1"))
}

/// What a JSON value is, without saying its content: it may be a secret.
pub(crate) fn kind(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}
