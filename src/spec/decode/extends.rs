//! What a stage starts from: `from`, or `extends` with the file and the stage in it.

use crate::spec::decode::fields::Fields;
use crate::spec::decode::{Decoder, Extends};
use crate::spec::error::ValueError;
use crate::spec::model::Base;
use crate::spec::source::Spanned;
use crate::spec::value::Name;

impl Decoder<'_> {
    /// What a stage starts from. What the stage of this name extends is kept until the other file is
    /// read.
    pub(crate) fn base(
        &mut self,
        fields: &Fields<'_>,
        name: Option<&Spanned<Name>>,
    ) -> Option<Spanned<Base>> {
        let Some(key) = fields.key("extends") else {
            let help = "name a stage, an image such as docker.io/library/alpine:3.20, or `scratch`";
            return self.needed(fields, "from", help);
        };
        if let Some(from) = fields.key("from") {
            let message = "a stage has either `from` or `extends`";
            let diagnostic = self
                .error(key.span, message)
                .also(from.span, "this is the other")
                .help("take one of the two out: a stage starts from one thing");
            self.report(diagnostic);
            return None;
        }
        let help = "write `extends: FILE#STAGE`, without a space before the `#`";
        let node = self.required(fields, "extends", help)?;
        let said = self.converted(node, "extends", file_and_stage)?;
        let (file, stage) = said.value;
        if let Some(name) = name {
            let extends = Extends {
                span: said.span,
                file,
                stage,
                is_all: fields.len() == 1,
            };
            self.extends.insert(name.value.clone(), extends);
        }
        Some(Spanned::new(Base::Scratch, said.span))
    }
}

/// Reads `FILE#STAGE`. The name of a file may have a `#`, that of a stage may not.
fn file_and_stage(text: &str) -> Result<(String, Name), ValueError> {
    let Some((file, stage)) = text.rsplit_once('#') else {
        return Err(match text.contains(['/', '.']) {
            true => ValueError::new(format!("{text:?} names a file and no stage of it"))
                .help(format!("write `extends: {text}#STAGE`")),
            false => ValueError::new(format!("{text:?} names no file")).help(format!(
                "write `from: {text}` for a stage of this file, or `extends: FILE#{text}`"
            )),
        });
    };
    if file.is_empty() {
        return Err(ValueError::new(format!("{text:?} names no file"))
            .help(format!("write `from: {stage}` for a stage of this file")));
    }
    if file.contains('\0') {
        return Err(ValueError::new("the path holds a NUL character").help("remove it"));
    }
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(ValueError::new("a URL cannot be extended")
            .help("keep a copy of that spec beside this one and extend it"));
    }
    match stage.parse() {
        Ok(stage) => Ok((file.to_owned(), stage)),
        Err(ValueError { .. }) if stage.is_empty() => {
            Err(ValueError::new(format!("{text:?} names no stage"))
                .help(format!("write `extends: {file}#STAGE`")))
        }
        Err(_) => Err(
            ValueError::new(format!("{stage:?} cannot be the name of a stage")).help(format!(
                "write `extends: {file}#STAGE`, with a stage of that file"
            )),
        ),
    }
}
