//! The graph of stages: what a name means, which stages use which, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::diagnostic::MOST;
use crate::spec::{
    Base, BuildSpec, Diagnostic, Diagnostics, Home, MOST_LISTED, Name, Origin, Span, Spanned,
    Stage, Step, similar,
};

/// A stage's use of another stage, and where it says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    /// The place of the stage that is used, in the spec.
    pub(crate) to: usize,
    /// The name as written.
    pub(crate) span: Span,
}

/// All stages of a spec and their uses of each other. Stages are known by their place in the spec.
pub(crate) struct Graph<'a> {
    spec: &'a BuildSpec,
    /// A name means a stage of the same file.
    places: BTreeMap<(Home, &'a Name), usize>,
    edges: Vec<Vec<Edge>>,
    is_sound: bool,
}

impl<'a> Graph<'a> {
    /// Reads the uses. A name that nothing has is a problem.
    pub(crate) fn read(spec: &'a BuildSpec, problems: &mut Diagnostics) -> Graph<'a> {
        let names = spec.stages.iter();
        let names = names.map(|stage| (stage.home, &stage.name.value));
        let mut graph = Graph {
            spec,
            places: names.zip(0..).collect(),
            edges: Vec::new(),
            is_sound: true,
        };
        for stage in &spec.stages {
            let edges = graph.uses(stage, problems);
            graph.edges.push(edges);
        }
        graph
    }

    /// The place of the stage that a file knows by this name.
    pub(crate) fn place(&self, home: Home, name: &Name) -> Option<usize> {
        self.places.get(&(home, name)).copied()
    }

    /// What the stage at a place uses, in the order of the text.
    pub(crate) fn edges(&self, stage: usize) -> &[Edge] {
        &self.edges[stage]
    }

    /// Whether every name means something and nothing goes in a circle, as far as was looked. If
    /// not, which stages are unused says nothing about what was meant.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// The spec's own stages that no other uses.
    pub(crate) fn unused(&self) -> Vec<usize> {
        let used: BTreeSet<usize> = self.edges.iter().flatten().map(|edge| edge.to).collect();
        let is_own = |stage: &usize| self.spec.stages[*stage].home == Home::Own;
        (0..self.edges.len())
            .filter(|stage| !used.contains(stage))
            .filter(is_own)
            .collect()
    }

    /// The stage that `stage` starts from.
    pub(crate) fn base(&self, stage: usize) -> Option<usize> {
        let stage = &self.spec.stages[stage];
        match &stage.from.value {
            Base::Name(name) => self.place(stage.home, name),
            Base::Stage(home, name) => self.place(*home, name),
            Base::Scratch | Base::Image(_) => None,
        }
    }

    /// The stages that `target` needs, itself last, each after all that it uses.
    ///
    /// The order follows the uses as they are written, so it does not depend on where stages stand
    /// in the file. Only for a graph without circles.
    pub(crate) fn needed(&self, target: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.edges.len()];
        let mut way = vec![(target, 0)];
        seen[target] = true;
        while let Some((at, next)) = way.last_mut() {
            match self.edges[*at].get(*next) {
                Some(edge) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[edge.to], true) {
                        way.push((edge.to, 0));
                    }
                }
                None => {
                    order.push(*at);
                    way.pop();
                }
            }
        }
        order
    }

    /// Reports circles: each stage uses the next, and the last the first. Of circles that share a
    /// stage one is enough, because whoever opens it looks at the others, too.
    pub(crate) fn report_circles(&mut self, problems: &mut Diagnostics) -> Circles {
        let mut found = Circles::None;
        let mut reported = vec![false; self.edges.len()];
        self.each_circle(|circle| {
            found = Circles::Some;
            if !circle.iter().any(|stage| reported[*stage]) {
                circle.iter().for_each(|stage| reported[*stage] = true);
                problems.push(self.circle_diagnostic(circle));
            }
        });
        self.is_sound &= found == Circles::None;
        found
    }

    /// Calls `meet` with a circle for every use that closes one.
    fn each_circle(&self, mut meet: impl FnMut(&[usize])) {
        let mut marks = vec![Mark::New; self.edges.len()];
        for start in 0..self.edges.len() {
            let mut way: Vec<usize> = Vec::new();
            let mut nexts: Vec<usize> = Vec::new();
            if marks[start] == Mark::New {
                marks[start] = Mark::OnTheWay(0);
                way.push(start);
                nexts.push(0);
            }
            while let (Some(&at), Some(next)) = (way.last(), nexts.last_mut()) {
                let Some(edge) = self.edges[at].get(*next) else {
                    marks[at] = Mark::Done;
                    way.pop();
                    nexts.pop();
                    continue;
                };
                *next += 1;
                match marks[edge.to] {
                    Mark::New => {
                        marks[edge.to] = Mark::OnTheWay(way.len());
                        way.push(edge.to);
                        nexts.push(0);
                    }
                    Mark::OnTheWay(begin) => meet(&way[begin..]),
                    Mark::Done => {}
                }
            }
        }
    }

    fn circle_diagnostic(&self, circle: &[usize]) -> Diagnostic {
        let stage = |place: usize| &self.spec.stages[circle[place % circle.len()]];
        let name = |place: usize| stage(place).name.as_str();
        let says = |place: usize| format!("{:?} uses {:?} here", name(place), name(place + 1));
        let span = |place: usize| {
            let next = circle[(place + 1) % circle.len()];
            let edge = self.edges[circle[place]]
                .iter()
                .find(|edge| edge.to == next);
            edge.map_or(stage(place).name.span, |edge| edge.span)
        };
        let shown = circle.len().min(MOST_LISTED);
        let message = match circle {
            [_] => format!("stage {:?} uses itself", name(0)),
            _ => {
                let mut path: Vec<&str> = (0..shown).map(name).collect();
                let more = match circle.len() - shown {
                    0 => String::new(),
                    more => format!("{more} more"),
                };
                path.extend([more.as_str()].into_iter().filter(|more| !more.is_empty()));
                path.push(name(0));
                format!("stages use each other in a circle: {}", path.join(" -> "))
            }
        };
        let first = Diagnostic::new(&self.spec.source, span(0), message)
            .label(says(0))
            .help("a stage can only use what is built before it; take one of these uses out");
        (1..shown).fold(first, |diagnostic, place| {
            diagnostic.also(span(place), says(place))
        })
    }

    fn uses(&mut self, stage: &Stage, problems: &mut Diagnostics) -> Vec<Edge> {
        let spec = self.spec;
        let mut edges = Vec::new();
        let base = match &stage.from.value {
            Base::Name(name) => Some((stage.home, name)),
            Base::Stage(home, name) => Some((*home, name)),
            Base::Scratch | Base::Image(_) => None,
        };
        if let Some((home, name)) = base {
            match self.place(home, name) {
                Some(to) => edges.push(Edge {
                    to,
                    span: stage.from.span,
                }),
                None => self.unknown(problems, || unknown_base(spec, home, name, stage.from.span)),
            }
        }
        for origin in stage.steps.iter().flat_map(Step::origins) {
            let Origin::Name(name) = &origin.value else {
                continue;
            };
            match self.place(stage.home, name) {
                Some(to) => edges.push(Edge {
                    to,
                    span: origin.span,
                }),
                None if spec.contexts_of(stage.home).directory(name).is_some() => {}
                None => self.unknown(problems, || unknown_source(spec, stage.home, name, origin)),
            }
        }
        edges
    }

    /// Looking for similar names takes its time, so it is not done for problems nobody will see.
    fn unknown(&mut self, problems: &mut Diagnostics, diagnostic: impl FnOnce() -> Diagnostic) {
        self.is_sound = false;
        if problems.len() < MOST {
            problems.push(diagnostic());
        }
    }
}

/// Whether stages use each other in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circles {
    /// They do not.
    None,
    /// They do, and it was reported.
    Some,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// On the way to where the search is, at this place of the way.
    OnTheWay(usize),
    Done,
}

fn unknown_base(spec: &BuildSpec, home: Home, name: &Name, span: Span) -> Diagnostic {
    let message = format!("there is no stage {:?}", name.as_str());
    let diagnostic = Diagnostic::new(&spec.source, span, message);
    if let Some(context) = spec.contexts_of(home).directory(name) {
        return diagnostic
            .also(context.span, "this is a context")
            .help(format!(
                "a stage cannot start from a context; start from scratch and `copy` it: {{copy: ., from: {name}}}"
            ));
    }
    let help = similar(name.as_str(), &spec.names_of(home));
    written_as_image(diagnostic.help(help), name)
}

fn unknown_source(
    spec: &BuildSpec,
    home: Home,
    name: &Name,
    origin: &Spanned<Origin>,
) -> Diagnostic {
    let message = format!("there is no stage or context {:?}", name.as_str());
    let diagnostic = Diagnostic::new(&spec.source, origin.span, message);
    if name.as_str() == "context" {
        return diagnostic.help("leave `from` out: files come from the main context then");
    }
    let mut known = spec.names_of(home);
    let contexts = spec.contexts_of(home).named.keys();
    known.extend(contexts.map(Name::as_str));
    written_as_image(diagnostic.help(similar(name.as_str(), &known)), name)
}

fn written_as_image(diagnostic: Diagnostic, name: &Name) -> Diagnostic {
    diagnostic.help(format!(
        "an image is written with its tag or registry: docker.io/library/{name}:TAG"
    ))
}
