//! [`Path`]: where a value or a rule stands, printed as Kubernetes' `field.Path`. Nothing is allocated until a path is
//! printed, so that a walk over a valid document costs nothing for it.

use std::fmt;

/// A path, as a chain of steps on the walker's stack.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Child(&'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The path that all others start with; it may be empty, and may be one that is printed already.
    pub fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Child(name) }
    }

    /// `parent.name`.
    pub fn child(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Child(name) }
    }

    /// `parent[key]`.
    pub fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    /// `parent[2]`.
    pub fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// Whether nothing would be printed.
    pub fn is_empty(&self) -> bool {
        self.parent.is_none() && matches!(self.step, Step::Child(""))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = Vec::new();
        let mut next = Some(self);
        while let Some(path) = next.filter(|path| !path.is_empty()) {
            steps.push(path.step);
            next = path.parent;
        }
        for (at, step) in steps.iter().rev().enumerate() {
            match step {
                Step::Child(name) if at == 0 => f.write_str(name)?,
                Step::Child(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn paths_are_printed_as_kubernetes_does() {
        let root = Path::root("spec.validation.openAPIV3Schema");
        let properties = root.child("properties");
        let spec = properties.key("spec");
        let items = spec.child("items");
        assert_eq!(
            items.index(3).to_string(),
            "spec.validation.openAPIV3Schema.properties[spec].items[3]"
        );
        let empty = Path::root("");
        assert_eq!(empty.child("spec").to_string(), "spec");
        assert_eq!(empty.to_string(), "");
    }
}
