//! The scalars that JSON pointers (RFC 6901) refer to.
//!
//! Owns which values count as found. Its invariants: a text is read once, however many pointers there
//! are, in pieces of any size, and only values at the end of a pointer take memory, because the text is
//! a client's; and a value is compared as it was written, so a number keeps its digits, while a string
//! is compared decoded. It must not know how the values are used.

mod grammar;
mod search;

use std::borrow::Cow;

use grammar::{JsonGrammar, NotJson};
use search::{PointerSearch, ReferencedValue};

/// The longest scalar that is read, in octets as it is written.
pub const LONGEST: usize = 64 * 1024;

/// Why there may be a value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableValue {
    /// The text is not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// The pointer leads to an array or an object.
    #[error("the value is an array or an object")]
    NotScalar,
    /// The value is longer than [`LONGEST`].
    #[error("the value is longer than 64 KiB")]
    TooLong,
}

/// Looks up the scalar at `pointer`: none where nothing is there, or null, or an empty
/// string. Of members with one name the last counts.
pub fn scalar(text: &[u8], pointer: &str) -> Result<Option<String>, UnreadableValue> {
    let pointers = Pointers::new([pointer]);
    let mut reading = pointers.reading();
    reading.feed(text);
    reading.end().at(pointer)
}

/// Pointers that are followed together.
#[derive(Clone, Debug)]
pub struct Pointers {
    /// A tree; the first is its root.
    nodes: Vec<PointerNode>,
    /// The longest name that can be one on a way, in octets as it is written.
    longest_name: usize,
}

#[derive(Clone, Debug, Default)]
struct PointerNode {
    parent: usize,
    /// Whether a pointer ends here.
    is_end: bool,
    steps: Vec<PointerStep>,
}

#[derive(Clone, Debug)]
struct PointerStep {
    name: String,
    /// The same as an index of an array.
    index: Option<usize>,
    to: usize,
}

/// How many octets of JSON one octet of a name may take: `\u0041`.
const WIDEST_ESCAPE: usize = 6;

impl Pointers {
    /// These pointers.
    pub fn new<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let mut all = Self { nodes: vec![PointerNode::default()], longest_name: 0 };
        for pointer in pointers {
            let end = steps(pointer).fold(0, |node, name| all.descend(node, &name));
            all.nodes[end].is_end = true;
        }
        all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && !self.nodes[0].is_end
    }

    /// Begins to read a text.
    pub fn reading(&self) -> PointerReader<'_> {
        PointerReader {
            pointers: self,
            search: PointerSearch::new(self),
            grammar: Ok(JsonGrammar::new()),
        }
    }

    /// The node behind one more step, made if there is none.
    fn descend(&mut self, node: usize, name: &str) -> usize {
        if let Some(step) = self.nodes[node].steps.iter().find(|step| step.name == name) {
            return step.to;
        }
        let to = self.nodes.len();
        self.longest_name = self.longest_name.max(WIDEST_ESCAPE * name.len() + 2);
        let step = PointerStep { name: name.to_owned(), index: index(name), to };
        self.nodes[node].steps.push(step);
        self.nodes.push(PointerNode { parent: node, ..PointerNode::default() });
        to
    }

    fn is_end(&self, node: usize) -> bool {
        self.nodes[node].is_end
    }

    fn goes_on(&self, node: usize) -> bool {
        !self.nodes[node].steps.is_empty()
    }

    const fn longest_name(&self) -> usize {
        self.longest_name
    }

    /// Whether `inner` is `outer`, or lies behind it.
    fn is_within(&self, inner: usize, outer: usize) -> bool {
        // A node has a higher number than its parent.
        let mut node = inner;
        while node > outer {
            node = self.nodes[node].parent;
        }
        node == outer
    }

    /// The node of an array's element.
    fn element(&self, node: usize, index: usize) -> Option<usize> {
        let mut steps = self.nodes[node].steps.iter();
        steps.find(|step| step.index == Some(index)).map(|step| step.to)
    }

    /// The node of an object's member; its name with quotation marks, as it is written.
    fn member(&self, node: usize, written: &[u8]) -> Option<usize> {
        if written.len() > self.longest_name {
            return None;
        }
        let name: Cow<'_, [u8]> = if written.contains(&b'\\') {
            // Half of a surrogate pair in a name stands for nothing that a pointer can say.
            serde_json::from_slice::<String>(written).ok()?.into_bytes().into()
        } else {
            written.get(1..written.len() - 1)?.into()
        };
        let mut steps = self.nodes[node].steps.iter();
        steps.find(|step| step.name.as_bytes() == &*name).map(|step| step.to)
    }
}

/// The names of a pointer's steps.
fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// An index of an array: digits without a zero before them.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| is_plain)
}

/// A text that is being read.
#[derive(Debug)]
pub struct PointerReader<'p> {
    pointers: &'p Pointers,
    search: PointerSearch<'p>,
    grammar: Result<JsonGrammar, NotJson>,
}

impl<'p> PointerReader<'p> {
    /// Reads the next octets.
    pub fn feed(&mut self, octets: &[u8]) {
        let Self { search, grammar, .. } = self;
        let fed = grammar.as_mut().map_or(Ok(()), |grammar| grammar.feed(octets, search));
        if let Err(broken) = fed {
            *grammar = Err(broken);
        }
    }

    /// Whether nothing that may come can change what is found. A later member of the same name
    /// can, so that is so only where the text is not JSON.
    pub const fn is_settled(&self) -> bool {
        self.grammar.is_err()
    }

    /// The text is over.
    pub fn end(mut self) -> Scalars<'p> {
        let ended = self.grammar.and_then(|grammar| grammar.end(&mut self.search));
        let found = ended.map(|()| self.search.into_found());
        Scalars { pointers: self.pointers, found }
    }
}

/// What was found in a text.
#[derive(Debug)]
pub struct Scalars<'p> {
    pointers: &'p Pointers,
    found: Result<Vec<(usize, ReferencedValue)>, NotJson>,
}

impl<'p> Scalars<'p> {
    /// Nothing, as in a text in which there is nothing.
    pub const fn none(pointers: &'p Pointers) -> Self {
        Self { pointers, found: Ok(Vec::new()) }
    }

    /// Where the text stops being JSON, in octets from 0; none where it does not.
    pub fn broken_at(&self) -> Option<usize> {
        self.found.as_ref().err().map(|NotJson(at)| *at)
    }

    /// The scalar at one of the pointers; see [`scalar`].
    pub fn at(&self, pointer: &str) -> Result<Option<String>, UnreadableValue> {
        let found = self.found.as_ref().map_err(|_| UnreadableValue::NotJson)?;
        let down = |node: usize, name: String| {
            let mut steps = self.pointers.nodes[node].steps.iter();
            steps.find(|step| step.name == name).map(|step| step.to)
        };
        let node = steps(pointer).try_fold(0, down);
        match found.iter().find(|(other, _)| Some(*other) == node).map(|(_, found)| found) {
            None => Ok(None),
            Some(ReferencedValue::NotScalar) => Err(UnreadableValue::NotScalar),
            Some(ReferencedValue::TooLong) => Err(UnreadableValue::TooLong),
            Some(ReferencedValue::Scalar(written)) => value(written),
        }
    }
}

/// The value of a scalar that is written like this.
fn value(written: &[u8]) -> Result<Option<String>, UnreadableValue> {
    if written.starts_with(b"\"") {
        let text: String = serde_json::from_slice(written).map_err(|_| UnreadableValue::NotJson)?;
        return Ok(Some(text).filter(|text| !text.is_empty()));
    }
    let text = std::str::from_utf8(written).map_err(|_| UnreadableValue::NotJson)?;
    Ok((text != "null").then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        scalar(text.as_bytes(), pointer).unwrap()
    }

    #[test]
    fn a_scalar_is_found_where_the_pointer_leads() {
        let text = r#" {"a":{"b":[1,"x",{"c/d":true,"e~f":"g"}]},"":"empty","n":null,"z":""} "#;
        for (pointer, found) in [
            ("/a/b/0", Some("1")),
            ("/a/b/1", Some("x")),
            ("/a/b/2/c~1d", Some("true")),
            ("/a/b/2/e~0f", Some("g")),
            ("/", Some("empty")),
            ("/n", None),
            ("/z", None),
            ("/a/b/3", None),
            ("/a/b/00", None),
            ("/a/b/+0", None),
            ("/a/b/-", None),
            ("/a/b/0/c", None),
            ("/a/b/1/c", None),
            ("/n/a", None),
            ("/missing/a", None),
        ] {
            assert_eq!(at(text, pointer).as_deref(), found, "{pointer}");
        }
        assert_eq!(at("\"whole\"", "").as_deref(), Some("whole"));
    }

    #[test]
    fn a_number_keeps_its_digits_and_a_string_is_what_it_stands_for() {
        for (written, found) in [
            ("2024.10", "2024.10"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("9007199254740993.0", "9007199254740993.0"),
            ("1e400", "1e400"),
            ("-0", "-0"),
            ("1E+2", "1E+2"),
            (r#""\u0041\n\/""#, "A\n/"),
            (r#""\ud83d\ude00""#, "😀"),
            ("false", "false"),
        ] {
            assert_eq!(at(&format!("{{\"k\": {written} }}"), "/k").as_deref(), Some(found));
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        assert_eq!(at(r#"{"a":1,"a":2}"#, "/a").as_deref(), Some("2"));
        assert_eq!(at(r#"{"a":1,"\u0061":3}"#, "/a").as_deref(), Some("3"));
        assert_eq!(at(r#"{"a":{"b":1},"a":{}}"#, "/a/b"), None);
        assert_eq!(at(r#"{"a":{"b":1},"a":7}"#, "/a/b"), None);
    }

    #[test]
    fn half_a_surrogate_pair_beside_the_path_is_walked_past() {
        for text in [
            r#"{"\ud800":1,"k":"x"}"#,
            r#"{"k":"x","\udc00a":{"\ud800":[]}}"#,
            r#"{"a":"\ud800","k":"x"}"#,
            r#"{"\ud800k":"y","k":"x"}"#,
        ] {
            assert_eq!(at(text, "/k").as_deref(), Some("x"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_not_there() {
        let read = |text: &[u8]| scalar(text, "/k");
        for text in [
            &b"{"[..],
            b"{\"k\":1} x",
            b"{\"k\":01}",
            b"{\"k\":1,}",
            b"k=1",
            b"\xef\xbb\xbf{\"k\":1}",
            b"{\"k\":\"\xff\"}",
            b"{\"k\":\"\\ud800\"}",
            b"",
        ] {
            assert_eq!(read(text), Err(UnreadableValue::NotJson), "{}", text.escape_ascii());
        }
        assert_eq!(read(b"{\"k\":[1]}"), Err(UnreadableValue::NotScalar));
        assert_eq!(read(b"{\"k\": {\"a\":1}}"), Err(UnreadableValue::NotScalar));
        let long = |length: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(length - 2));
        assert_eq!(read(long(LONGEST + 1).as_bytes()), Err(UnreadableValue::TooLong));
        assert!(read(long(LONGEST).as_bytes()).unwrap().is_some());
    }

    #[test]
    fn the_first_octet_that_is_no_json_is_told_wherever_the_text_is_cut() {
        for (text, place) in [
            (r#"{"k":1"#, Some(6)),
            (r#"{"k":1,}"#, Some(7)),
            (r#"{"k": 01}"#, Some(7)),
            (r#"{"k": 1.}"#, Some(8)),
            (r#"{"k": nul }"#, Some(9)),
            (r#"{"k":"a\x"}"#, Some(8)),
            ("k=1", Some(0)),
            (r#"{"k":1} x"#, Some(8)),
            (r#"{"k":-"#, Some(6)),
            ("", Some(0)),
            (r#"{"k":1}"#, None),
        ] {
            for cut in 0..=text.len() {
                let pointers = Pointers::new(["/k"]);
                let mut reading = pointers.reading();
                reading.feed(&text.as_bytes()[..cut]);
                reading.feed(&text.as_bytes()[cut..]);
                assert_eq!(reading.end().broken_at(), place, "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn nesting_beside_the_path_is_walked_past_however_deep() {
        let deep = format!("{{\"a\":{}{},\"k\":1}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(at(&deep, "/k").as_deref(), Some("1"));
        assert_eq!(at(&deep, "/a/0/0/0/0/0/0/0/k"), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\~/é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ab0~/]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// What a whole tree has there.
    fn in_a_tree(tree: &Value, pointer: &str) -> Result<Option<String>, UnreadableValue> {
        match tree.pointer(pointer) {
            Some(Value::Array(_) | Value::Object(_)) => Err(UnreadableValue::NotScalar),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Null) | None => Ok(None),
            Some(scalar) => Ok(Some(scalar.to_string())),
        }
    }

    #[test]
    fn pointers_are_followed_together_through_one_reading() {
        let pointers = Pointers::new(["/a", "/a/b", "/a/b/0", "/c", "/c", "/d"]);
        let text = br#"{"a":{"b":[7,8]},"c":"x","a":{"b":[9]},"d":"\ud800","d":1}"#;
        let mut reading = pointers.reading();
        reading.feed(text);
        let found = reading.end();
        assert_eq!(found.at("/a"), Err(UnreadableValue::NotScalar));
        assert_eq!(found.at("/a/b"), Err(UnreadableValue::NotScalar));
        assert_eq!(found.at("/a/b/0"), Ok(Some("9".to_owned())));
        assert_eq!(found.at("/c"), Ok(Some("x".to_owned())));
        assert_eq!(found.at("/d"), Ok(Some("1".to_owned())));
        assert!(Pointers::new([]).is_empty() && !pointers.is_empty());
    }

    #[test]
    fn what_is_not_json_is_read_no_further() {
        let pointers = Pointers::new(["/k"]);
        let mut reading = pointers.reading();
        reading.feed(b"{\"k\":1");
        assert!(!reading.is_settled());
        reading.feed(b"]");
        assert!(reading.is_settled());
        reading.feed(b"}");
        assert_eq!(reading.end().at("/k"), Err(UnreadableValue::NotJson));
    }

    #[test]
    fn a_name_beside_the_way_takes_no_memory_however_long() {
        let pointers = Pointers::new(["/k"]);
        let mut reading = pointers.reading();
        reading.feed(b"{\"");
        for _ in 0..1000 {
            reading.feed(&[b'x'; 1000]);
        }
        assert!(format!("{reading:?}").len() < 4000);
        reading.feed(b"\\n\":1,\"\\u006b\":2}");
        assert_eq!(reading.end().at("/k"), Ok(Some("2".to_owned())));
    }

    proptest! {
        #[test]
        fn it_finds_what_a_whole_tree_has_there(
            tree in json(),
            ways in prop::collection::vec("(/([ab01]|~0|~1){0,2}){0,3}", 1..5),
            cut in 1usize..9,
        ) {
            let pointers = Pointers::new(ways.iter().map(String::as_str));
            let mut reading = pointers.reading();
            tree.to_string().as_bytes().chunks(cut).for_each(|piece| reading.feed(piece));
            let found = reading.end();
            for way in &ways {
                prop_assert_eq!(found.at(way), in_a_tree(&tree, way), "{}", way);
            }
        }

        #[test]
        fn it_takes_for_json_what_others_take(text in JSON_LIKE, cut in 1usize..5) {
            let pointers = Pointers::new(["/a/b"]);
            let mut reading = pointers.reading();
            text.as_bytes().chunks(cut).for_each(|piece| reading.feed(piece));
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            let found = reading.end().at("/a/b");
            prop_assert_eq!(found != Err(UnreadableValue::NotJson), is_json, "{:?}", text);
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60), pointer in ".{0,12}") {
            let _ = scalar(&octets, &pointer);
        }
    }

    /// Pieces of which some make JSON and most do not quite.
    const JSON_LIKE: &str = r#"([\[\]{},: ]|"a"|"\\[bu"x/]"|"\\ud8[0-9a-g]{2}"|true|fals|null|-?(0|12)(\.[0-9]{0,2})?([eE][+-]?[0-9]?)?){0,7}"#;
}
