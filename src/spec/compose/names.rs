//! Names: the project's, and those under which compose looks for the image of a service.

use crate::oci::Reference;
use crate::spec::compose::reader::{Read, Reader};
use crate::spec::compose::tree::{Item, Place};
use crate::spec::error::ValueError;

const PROJECT: &str =
    "a project's name has lower-case letters, digits, - and _, and begins with a letter or a digit";

impl Reader<'_> {
    /// The project's name: the caller's, else that of `COMPOSE_PROJECT_NAME`, of the files, of the
    /// folder.
    pub(crate) fn project(&mut self, root: &Item) -> Option<String> {
        if let Some(project) = self.inputs.project {
            return Some(project.to_owned());
        }
        let variable = self.variable("COMPOSE_PROJECT_NAME");
        if let Some(project) = variable.filter(|project| !project.is_empty()) {
            if project == normal(&project) {
                return Some(project);
            }
            let message = format!("{project:?} of COMPOSE_PROJECT_NAME is no name of a project");
            self.refuse(self.first_line(root.place), message, PROJECT);
            return None;
        }
        if let Some(name) = root.get("name") {
            let read = self.text(name, "`name`")?;
            if !read.text.is_empty() && read.text == normal(&read.text) {
                return Some(read.text);
            }
            let message = format!("{:?} is no name of a project", read.text);
            self.refuse(read.place, message, PROJECT);
            return None;
        }
        let project = normal(self.inputs.folder_name);
        (!project.is_empty()).then_some(project)
    }

    /// The names of a service's image: what `image` says, or else what podman-compose and
    /// docker compose make of project and service; then those of `tags`.
    pub(crate) fn image_names(
        &mut self,
        service: &str,
        place: Place,
        image: Option<&Read>,
        tags: &[Read],
        project: Option<&str>,
    ) -> Option<Vec<Reference>> {
        let mut names = match (image, project) {
            (Some(image), _) => vec![self.buildable(image)?],
            (None, Some(project)) => {
                let docker = format!("{project}-{service}:latest");
                let podman = format!("localhost/{project}_{service}:latest");
                match (docker.parse(), podman.parse()) {
                    // `podman load` takes the first name of an archive, `docker load` all of them.
                    (Ok(docker), Ok(podman)) => vec![podman, docker],
                    _ => {
                        let message = format!("no image can be named after service `{service}`");
                        self.refuse(place, message, "name it in the service: `image: NAME:TAG`");
                        return None;
                    }
                }
            }
            // A wrong name of the project was told already.
            (None, None) if !self.is_content() => return None,
            (None, None) => {
                let message = format!("nothing names the image of service `{service}`");
                let help =
                    "write `image: NAME:TAG` into the service, or `name: PROJECT` into the file";
                self.refuse(place, message, help);
                return None;
            }
        };
        for tag in tags {
            let name = self.buildable(tag)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names)
    }

    /// A name that an image can be given.
    fn buildable(&mut self, read: &Read) -> Option<Reference> {
        let name: Reference = match read.text.parse() {
            Ok(name) => name,
            Err(error) => {
                let ValueError { message, help } = ValueError::from(error);
                let help = help.unwrap_or_default();
                self.refuse(read.place, message, &help);
                return None;
            }
        };
        if name.digest().is_some() {
            let message = "an image that is built cannot be given a digest as its name";
            let help = "write `image: NAME:TAG`, and pin it with --compose-lock";
            self.refuse(read.place, message, help);
            return None;
        }
        Some(name.with_default_tag())
    }
}

/// A name as docker compose makes it fit for a project.
fn normal(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let kept: String = lower.chars().filter(kept).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

/// Whether a project may have this name.
pub fn is_project_name(name: &str) -> bool {
    !name.is_empty() && name == normal(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_named_as_docker_compose_names_them() {
        for (name, expected) in [
            ("assistant", "assistant"),
            ("My Project.v2", "myprojectv2"),
            ("_hidden", "hidden"),
            ("--x_y-z", "x_y-z"),
            ("2024-app", "2024-app"),
            ("Größe", "gre"),
            ("...", ""),
        ] {
            assert_eq!(normal(name), expected, "{name}");
        }
        assert!(is_project_name("a-b") && !is_project_name("A") && !is_project_name(""));
    }
}
