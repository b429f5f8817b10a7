//! Types as contracts store them: with labels, attributes and elements, and without what differs between
//! databases.

use serde::{Deserialize, Serialize};

use crate::types::{Base, SqlType, TypeParts};

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeForm {
    /// Its name with its modifier.
    #[serde(rename = "type")]
    pub name: String,
    /// Labels, if it is an enum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Attributes of a composite, or the subtype of a range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartForm>,
    /// Elements of an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements: Option<Box<TypeForm>>,
}

/// A part of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartForm {
    /// Its name; empty for the subtype of a range.
    pub name: String,
    /// Its type.
    pub form: TypeForm,
}

/// The differences between two types.
#[derive(Debug, Default)]
pub(super) struct FormDifferences {
    /// Each difference as the path of the field and the rest of a sentence about it.
    pub(super) broken: Vec<(String, String)>,
    /// Paths of new attributes.
    pub(super) added: Vec<String>,
}

/// Largest depth of nested types in a description. A type that contains itself ends here.
const MAX_DEPTH: usize = 16;

impl TypeForm {
    /// Describes a type. `types`: the parts of the table's types.
    pub fn of(data_type: &SqlType, types: &[TypeParts]) -> Self {
        Self::at(data_type, types, 0)
    }

    fn at(data_type: &SqlType, types: &[TypeParts], depth: usize) -> Self {
        let mut form =
            Self { name: data_type.to_string(), labels: Vec::new(), parts: Vec::new(), elements: None };
        if depth > MAX_DEPTH {
            return form;
        }
        match &data_type.base {
            Base::Enum(known) => form.labels.clone_from(&known.labels),
            Base::Array(element) => {
                let element = SqlType { base: Base::clone(element), modifier: data_type.modifier };
                form.elements = Some(Box::new(Self::at(&element, types, depth + 1)));
            }
            Base::Other(named) => {
                let known = types.iter().find(|one| one.name == named.name);
                let part = |part: &crate::types::TypePart| PartForm {
                    name: part.name.clone(),
                    form: Self::at(&part.data_type, types, depth + 1),
                };
                form.parts = known.into_iter().flat_map(|one| &one.parts).map(part).collect();
            }
            _ => {}
        }
        form
    }

    /// The type for a comparison of printed values: with its modifier only if that changes the text.
    fn printed(&self) -> String {
        let (name, modifier) = self.split();
        match family(name) {
            "numeric" => {
                let scale =
                    modifier.and_then(|modifier| modifier.split_once(',')).map_or("", |(_, scale)| scale);
                format!("numeric with scale {scale}")
            }
            "character" => self.name.clone(),
            "json" | "double precision" => name.to_owned(),
            "smallint" | "integer" | "bigint" => "integer".to_owned(),
            other => other.to_owned(),
        }
    }

    /// The name without its modifier.
    pub(super) fn plain_name(&self) -> String {
        self.split().0.to_owned()
    }

    /// The name, and what its parentheses contain.
    fn split(&self) -> (&str, Option<&str>) {
        match self.name.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')),
            None => (&self.name, None),
        }
    }

    /// Whether values of both types are printed in the same way. Labels that are added or no longer used do
    /// not matter.
    pub(super) fn prints_like(&self, other: &Self) -> bool {
        let inside = match (&self.elements, &other.elements) {
            (Some(one), Some(other)) => one.prints_like(other),
            (None, None) => true,
            _ => false,
        };
        let is_known = !self.parts.is_empty() && !other.parts.is_empty();
        let same_parts = !is_known
            || (self.parts.len() == other.parts.len()
                && self.parts.iter().zip(&other.parts).all(|(one, other)| one.form.prints_like(&other.form)));
        let named = is_known
            || self.elements.is_some()
            || (!self.labels.is_empty() && !other.labels.is_empty())
            || self.printed() == other.printed();
        inside && same_parts && named && self.renamed_labels(other).is_empty()
    }

    /// Labels that are gone while others are new: they may have been renamed.
    fn renamed_labels<'a>(&'a self, now: &Self) -> Vec<&'a String> {
        let is_new = |label: &&String| !self.labels.contains(label);
        if now.labels.is_empty() || !now.labels.iter().any(|label| is_new(&label)) {
            return Vec::new();
        }
        self.labels.iter().filter(|label| !now.labels.contains(label)).collect()
    }

    /// Compares the values that consumers receive: every value of the present type must be valid for the
    /// locked one.
    pub(super) fn compare(&self, now: &Self, at: &str, found: &mut FormDifferences) {
        let mut broken = |what: String| found.broken.push((at.to_owned(), what));
        for label in self.renamed_labels(now) {
            broken(format!("lost the label {label:?}"));
        }
        if let (Some(was), Some(now)) = (&self.elements, &now.elements) {
            return was.compare(now, at, found);
        }
        if !self.parts.is_empty() && !now.parts.is_empty() {
            return self.compare_parts(now, at, found);
        }
        let both_enums = !self.labels.is_empty() && !now.labels.is_empty();
        let to_text = |form: &Self| !form.labels.is_empty() || family(form.split().0) == "text";
        let interchangeable = both_enums || (to_text(self) && to_text(now));
        if !interchangeable && self.read() != now.read() {
            broken(format!("changed from {} to {}", self.name, now.name));
        }
    }

    /// The type as consumers see its values: without a precision, but with the length of a padded text.
    fn read(&self) -> &str {
        let (name, _) = self.split();
        if family(name) == "character" { &self.name } else { family(name) }
    }

    fn compare_parts(&self, now: &Self, at: &str, found: &mut FormDifferences) {
        let path = |name: &str| if name.is_empty() { at.to_owned() } else { format!("{at}.{name}") };
        for part in &self.parts {
            match now.parts.iter().find(|other| other.name == part.name) {
                Some(other) => part.form.compare(&other.form, &path(&part.name), found),
                None => found.broken.push((path(&part.name), "is gone".to_owned())),
            }
        }
        let is_new = |part: &&PartForm| !self.parts.iter().any(|known| known.name == part.name);
        found.added.extend(now.parts.iter().filter(is_new).map(|part| path(&part.name)));
    }
}

/// One type for all types whose values look the same. The schema of a user-defined type is not part of its
/// name.
pub(super) fn family(name: &str) -> &str {
    match name.rsplit('.').next().unwrap_or(name) {
        "character varying" | "name" | "citext" => "text",
        "real" => "double precision",
        "jsonb" => "json",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(name: &str) -> TypeForm {
        TypeForm { name: name.into(), labels: Vec::new(), parts: Vec::new(), elements: None }
    }

    fn labelled(labels: &[&str]) -> TypeForm {
        TypeForm { labels: labels.iter().map(|&label| label.into()).collect(), ..form("s.st") }
    }

    fn composite(parts: &[(&str, TypeForm)]) -> TypeForm {
        let part = |(name, form): &(&str, TypeForm)| PartForm { name: (*name).into(), form: form.clone() };
        TypeForm { parts: parts.iter().map(part).collect(), ..form("s.addr") }
    }

    fn broken(was: &TypeForm, now: &TypeForm) -> Vec<String> {
        let mut found = FormDifferences::default();
        was.compare(now, "f", &mut found);
        found.broken.into_iter().map(|(at, what)| format!("{at} {what}")).collect()
    }

    #[test]
    fn type_with_other_values_is_a_difference() {
        for (was, now, is_broken) in [
            ("character varying(20)", "text", false),
            ("text", "character varying(5)", false),
            ("name", "text", false),
            ("public.citext", "text", false),
            ("character(3)", "text", true),
            ("character(3)", "character(5)", true),
            ("text", "character(3)", true),
            ("inet", "text", true),
            ("inet", "cidr", true),
            ("money", "text", true),
            ("point", "box", true),
            ("int4range", "tstzrange", true),
            ("numeric(10,2)", "numeric(14,4)", false),
            ("real", "double precision", false),
            ("json", "jsonb", false),
            ("public.ltree", "ltree", false),
        ] {
            assert_eq!(!broken(&form(was), &form(now)).is_empty(), is_broken, "{was} -> {now}");
        }
    }

    #[test]
    fn renamed_label_is_a_difference_at_any_depth() {
        let (was, now) = (labelled(&["open", "shipped"]), labelled(&["o", "shipped"]));
        let inside = |form: &TypeForm| composite(&[("street", self::form("text")), ("st", form.clone())]);
        assert_eq!(broken(&inside(&was), &inside(&now)), ["f.st lost the label \"open\""]);
        for now in [labelled(&["shipped"]), labelled(&["open", "held", "shipped"])] {
            assert_eq!(broken(&inside(&was), &inside(&now)), [""; 0]);
            assert!(was.prints_like(&now));
        }
        assert!(!was.prints_like(&now));
    }

    #[test]
    fn new_attribute_is_an_addition() {
        let was = composite(&[("no", form("integer"))]);
        let mut found = FormDifferences::default();
        was.compare(&composite(&[("no", form("integer")), ("zip", form("text"))]), "home", &mut found);
        assert_eq!((found.broken.len(), found.added), (0, vec!["home.zip".to_owned()]));
        assert_eq!(
            broken(&was, &composite(&[("no", form("numeric"))])),
            ["f.no changed from integer to numeric"]
        );
        assert_eq!(broken(&was, &composite(&[("zip", form("text"))])), ["f.no is gone"]);
    }

    #[test]
    fn scale_and_padding_show_in_print() {
        for (was, now, same) in [
            ("numeric(10,2)", "numeric(14,4)", false),
            ("numeric(10,2)", "numeric(14,2)", true),
            ("numeric(10,2)", "numeric", false),
            ("integer", "bigint", true),
            ("character varying(3)", "text", true),
            ("character(3)", "character(5)", false),
            ("real", "double precision", false),
            ("json", "jsonb", false),
            ("date", "timestamp with time zone", false),
        ] {
            assert_eq!(form(was).prints_like(&form(now)), same, "{was} -> {now}");
        }
    }
}
