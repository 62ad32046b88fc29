//! Services: which of them are built, and which run what another builds.

use crate::oci::Reference;
use crate::spec::arguments::nearest;
use crate::spec::compose::ComposedImage;
use crate::spec::compose::build::EXTENSION;
use crate::spec::compose::interpolate::interpolate;
use crate::spec::compose::reader::Reader;
use crate::spec::compose::tree::{At, Field, Item, ItemValue, Place, merge};

/// What is known of a service before it is read.
pub(crate) struct Service<'n> {
    pub(crate) name: &'n str,
    pub(crate) place: Place,
    /// With what it extends.
    pub(crate) item: Item,
}

impl Reader<'_> {
    /// The images of the services that are wanted.
    pub(crate) fn images(&mut self, root: &Item) -> Vec<ComposedImage> {
        let Some(fields) = root.get("services").and_then(Item::fields) else {
            let message = "there is no service in the compose file";
            self.refuse(
                self.first_line(root.place),
                message,
                "write `services: {app: {build: .}}`",
            );
            return Vec::new();
        };
        let wanted = self.inputs.wanted;
        if !self.has_all(root, fields) {
            return Vec::new();
        }
        let mut images: Vec<(ComposedImage, Place)> = Vec::new();
        let mut others = Vec::new();
        let mut has_problem = false;
        for field in fields {
            let is_wanted = wanted.is_empty() || wanted.contains(&field.key);
            let Some(service) = self.extended(field, fields, is_wanted) else {
                has_problem |= is_wanted;
                continue;
            };
            let is_built = ["build", EXTENSION]
                .iter()
                .any(|key| service.item.get(key).is_some());
            match (is_wanted, is_built) {
                (true, true) => match self.image(root, &service) {
                    Some(image) => images.push((image, field.place)),
                    None => has_problem = true,
                },
                (true, false) if !wanted.is_empty() => {
                    has_problem = true;
                    let message = format!("service `{}` has no `build`", field.key);
                    self.refuse(
                        field.place,
                        message,
                        "write `build: FOLDER` of a boxwright.yaml, or `x-boxwright: SPEC`",
                    );
                }
                (_, false) => others.push(service),
                (false, true) => {}
            }
        }
        if images.is_empty() && !has_problem {
            let message = "no service has a `build`";
            self.refuse(
                self.first_line(root.place),
                message,
                "write `build: FOLDER` of a boxwright.yaml into a service",
            );
        }
        let mut images = self.each_once(images);
        for service in others {
            self.runs_one_of(&service, &mut images);
        }
        images
    }

    /// Whether all services that are wanted are in these files.
    fn has_all(&mut self, root: &Item, services: &[Field]) -> bool {
        let missing = |name: &&String| !services.iter().any(|field| field.key == **name);
        let missing: Vec<&String> = self.inputs.wanted.iter().filter(missing).collect();
        if let Some(include) = root.get("include")
            && (!missing.is_empty() || self.inputs.wanted.is_empty())
        {
            let message = "what `include` takes in is not read";
            let help = "name services of this file behind --compose FILE, or build the other files by themselves";
            self.refuse(self.first_line(include.place), message, help);
            return false;
        }
        for name in &missing {
            let message = format!("there is no service `{name}`");
            let names = || services.iter().map(|field| field.key.as_str());
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
            };
            self.refuse(self.first_line(root.place), message, &help);
        }
        missing.is_empty()
    }

    /// A service with what it extends, as far as that is in these files.
    fn extended<'n>(
        &mut self,
        field: &'n Field,
        services: &'n [Field],
        is_wanted: bool,
    ) -> Option<Service<'n>> {
        let mut item = field.value.clone();
        let mut seen = vec![field.key.clone()];
        while let Some(extends) = item.get("extends").cloned() {
            let base = match self.base(&extends, services, is_wanted) {
                Some(base) if !seen.contains(&base.key) => base,
                Some(base) => {
                    if is_wanted {
                        let message = format!("service `{}` extends itself", base.key);
                        self.refuse(
                            extends.place,
                            message,
                            "take one `extends` of the circle away",
                        );
                    }
                    return None;
                }
                None => return None,
            };
            seen.push(base.key.clone());
            if let ItemValue::Map(own) = &mut item.value {
                own.retain(|own| own.key != "extends");
            }
            item = merge(base.value.clone(), item, At::Service);
        }
        Some(Service {
            name: &field.key,
            place: field.place,
            item,
        })
    }

    /// The service that `extends` names; says why there is none if that matters.
    fn base<'n>(
        &mut self,
        extends: &Item,
        services: &'n [Field],
        is_wanted: bool,
    ) -> Option<&'n Field> {
        let refuse = |reader: &mut Self, message: &str, help: &str| {
            if is_wanted {
                reader.refuse(reader.first_line(extends.place), message, help);
            }
            None
        };
        if extends.get("file").is_some() {
            let message = "what a service extends in another file is not read";
            let help =
                "write its `build` here, or name the services to build behind --compose FILE";
            return refuse(self, message, help);
        }
        let name = match &extends.value {
            ItemValue::Map(_) => extends.get("service").cloned(),
            _ => Some(extends.clone()),
        };
        let name = name.and_then(|name| self.text(&name, "`extends`"));
        let found = services
            .iter()
            .find(|field| name.as_ref().is_some_and(|name| name.text == field.key));
        match found {
            Some(found) => Some(found),
            None => refuse(
                self,
                "there is no such service to extend",
                "name a service of this file",
            ),
        }
    }

    /// Images that are the same in all but the service are one; others must differ in their names.
    fn each_once(&mut self, images: Vec<(ComposedImage, Place)>) -> Vec<ComposedImage> {
        let mut once: Vec<ComposedImage> = Vec::new();
        for (mut image, place) in images {
            let shares_name = |known: &&mut ComposedImage| {
                known.names.iter().any(|name| image.names.contains(name))
            };
            let Some(known) = once.iter_mut().find(shares_name) else {
                once.push(image);
                continue;
            };
            let services = std::mem::replace(&mut image.services, known.services.clone());
            // Where the spec was named is no difference.
            image.spec.missing = known.spec.missing.clone();
            if image == *known {
                known.services.extend(services);
                continue;
            }
            let name = known.names.iter().find(|name| image.names.contains(name));
            let message = format!(
                "services `{}` and `{}` build different images of one name, {}",
                known.services[0],
                services[0],
                name.map(ToString::to_string).unwrap_or_default()
            );
            self.refuse(place, message, "give each an `image:` of its own");
        }
        once
    }

    /// A service that builds nothing may run what another builds.
    fn runs_one_of(&mut self, service: &Service<'_>, images: &mut [ComposedImage]) {
        let Some(ItemValue::Text(text)) = service.item.get("image").map(|item| &item.value) else {
            return;
        };
        // Its variables are nobody's business if it runs something else.
        let lookup = |name: &str| self.variable(name);
        let Ok(read) = interpolate(text, &lookup) else {
            return;
        };
        let Ok(name) = read.text.parse::<Reference>() else {
            return;
        };
        let name = name.with_default_tag();
        let built = images.iter_mut().find(|image| image.names.contains(&name));
        if let Some(image) = built {
            image.services.push(service.name.to_owned());
        }
    }
}
