//! Files that extend each other in a circle, and the way round.

use std::collections::{BTreeMap, VecDeque};

use crate::spec::decode::Extends;
use crate::spec::diagnostic::Diagnostic;
use crate::spec::link::Linker;
use crate::spec::model::Home;

impl Linker<'_> {
    /// Notes that a file extends another. `false` after a problem: the other one needs the file.
    pub(crate) fn without_circle(&mut self, from: Home, to: Home, extends: &Extends) -> bool {
        if self.uses.contains_key(&(from, to)) {
            return true;
        }
        let Some(way) = self.way(to, from) else {
            self.uses.insert((from, to), extends.span);
            return true;
        };
        let problem = self.circle(&way, extends);
        self.problems.push(problem);
        false
    }

    /// The shortest way from one file to another by what they extend, both included.
    fn way(&self, from: Home, to: Home) -> Option<Vec<Home>> {
        let mut before = BTreeMap::from([(from, from)]);
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at == to {
                let step = |at: &Home| before.get(at).copied().filter(|before| before != at);
                let mut way: Vec<Home> = std::iter::successors(Some(to), step).collect();
                way.reverse();
                return Some(way);
            }
            let next = self.uses.keys().filter(|(user, _)| *user == at);
            for (_, used) in next {
                if !before.contains_key(used) {
                    before.insert(*used, at);
                    queue.push_back(*used);
                }
            }
        }
        None
    }

    /// The problem of a circle: `way` leads to the file that extends the first of the way.
    fn circle(&self, way: &[Home], extends: &Extends) -> Diagnostic {
        let name = |place: usize| self.name(way[place % way.len()]);
        let last = way.len() - 1;
        if last == 0 {
            let message = format!("{} extends itself", name(0));
            return Diagnostic::new(&self.source, extends.span, message).help(format!(
                "write `from: {}` for a stage of the same file",
                extends.stage.as_str()
            ));
        }
        let names: Vec<&str> = (0..=way.len()).map(name).collect();
        let message = format!(
            "specs extend each other in a circle: {}",
            names.join(" -> ")
        );
        let says = |place: usize| format!("{} extends {} here", name(place), name(place + 1));
        let problem = Diagnostic::new(&self.source, extends.span, message)
            .label(says(last))
            .help("a spec can only extend what does not need it: move what both use into a file of its own");
        (0..last).fold(problem, |problem, place| {
            let span = self.uses.get(&(way[place], way[place + 1]));
            problem.also(span.copied().unwrap_or_default(), says(place))
        })
    }
}
