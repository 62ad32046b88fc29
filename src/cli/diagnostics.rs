//! Diagnostics: what is wrong with a spec, drawn with carets as compilers do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use boxwright::spec::{Diagnostic, Diagnostics, SourceText, Span};

use crate::cli::terminal::BOLD_RED;

/// All diagnostics, and how many there are; with styles.
pub(crate) fn render(diagnostics: &Diagnostics, width: usize) -> String {
    let renderer = Renderer::styled().term_width(width).hyperlink(false);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let _ = writeln!(text, "{}\n", renderer.render(&[group(diagnostic)]));
    }
    let problems = match diagnostics.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    let files = diagnostics.iter().map(|one| one.file().name.as_str());
    let files: BTreeSet<&str> = files.collect();
    let names = files.into_iter().map(|name| {
        let path = Path::new(name);
        path.strip_prefix(".").unwrap_or(path).display().to_string()
    });
    let names = names.collect::<Vec<_>>().join(" and ");
    let _ = writeln!(text, "{BOLD_RED}error:{BOLD_RED:#} {problems} in {names}");
    text
}

fn group(diagnostic: &Diagnostic) -> Group<'_> {
    let file = diagnostic.file();
    let title = Level::ERROR.primary_title(&*diagnostic.message);
    let helps = diagnostic
        .help
        .iter()
        .map(|help| Level::HELP.message(&**help));
    let Some(span) = diagnostic.span else {
        let origin = annotate_snippets::Origin::path(&*file.name);
        return title.element(origin).elements(helps);
    };
    let primary = AnnotationKind::Primary.span(visible(file, span));
    let primary = primary.label(diagnostic.label.as_deref());
    let mut others: Vec<&SourceText> = Vec::new();
    for (span, _) in &diagnostic.also {
        let other = diagnostic.source.file(*span);
        if !std::ptr::eq(other, file) && !others.iter().any(|one| std::ptr::eq(*one, other)) {
            others.push(other);
        }
    }
    let first = snippet(file, diagnostic).annotation(primary);
    let others = others.into_iter().map(|other| snippet(other, diagnostic));
    title.element(first).elements(others).elements(helps)
}

/// A file with the further places of the story that lie in it.
fn snippet<'a>(file: &'a SourceText, diagnostic: &'a Diagnostic) -> Snippet<'a, Annotation<'a>> {
    let here = diagnostic
        .also
        .iter()
        .filter(|(span, _)| std::ptr::eq(diagnostic.source.file(*span), file));
    let annotations = here.map(|(span, label)| {
        AnnotationKind::Context
            .span(visible(file, *span))
            .label(label.clone())
    });
    Snippet::source(&*file.text)
        .path(&*file.name)
        .annotations(annotations)
}

/// The first line of a span: carets under a whole block of text say less than under its head.
fn visible(file: &SourceText, span: Span) -> std::ops::Range<usize> {
    let line = file.at(span).lines().next().unwrap_or_default();
    let start = boundary(&file.text, file.local(span).start);
    start..start + line.trim_end().len()
}

/// The nearest character boundary at or before `offset`: the renderer panics within characters.
fn boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::terminal::plain;
    use std::sync::Arc;

    fn span_of(source: &SourceText, text: &str) -> Span {
        let start = source.text.find(text).unwrap();
        Span::new(start, start + text.len())
    }

    #[test]
    fn several_problems_are_drawn_with_carets_and_counted() {
        let text = "format: 1\nstages:\n  app:\n    from: scratch\n    stepps:\n      - copy: .\n  app:\n    from: buidl\n";
        let source = Arc::new(SourceText::new("./boxwright.yaml", text));
        let diagnostics: Diagnostics = [
            Diagnostic::new(&source, span_of(&source, "stepps"), "unknown key `stepps`")
                .help("a stage has a key `steps`"),
            Diagnostic::new(
                &source,
                span_of(&source, "buidl"),
                "stage `buidl` does not exist",
            )
            .label("no stage has this name")
            .also(span_of(&source, "scratch"), "this one is fine")
            .help("stages are: app")
            .help("begin with:\nfrom: scratch"),
        ]
        .into_iter()
        .collect();
        insta::assert_snapshot!(plain(&render(&diagnostics, 80)));
    }

    #[test]
    fn a_problem_without_a_place_names_the_file() {
        let source = Arc::new(SourceText::new("a/b.yaml", ""));
        let diagnostic =
            Diagnostic::about(&source, "the spec is empty").help("begin with:\nformat: 1");
        insta::assert_snapshot!(plain(&render(&diagnostic.into(), 80)));
    }

    #[test]
    fn spans_at_the_edges_are_drawn() {
        let source = Arc::new(SourceText::new("b.yaml", "a: é\n"));
        for (start, end) in [(0, 0), (3, 5), (6, 6), (0, 6), (6, 99), (4, 5)] {
            let diagnostic = Diagnostic::new(&source, Span::new(start, end), "here");
            assert!(plain(&render(&diagnostic.into(), 80)).contains("here"));
        }
    }
}
