//! Stages, users and groups.

use crate::spec::decode::Decoder;
use crate::spec::decode::scalars::Brackets;
use crate::spec::decode::shapes::{CONFIG, GROUP, STAGE, USER};
use crate::spec::model::{Home, NewGroup, NewUser, Stage};
use crate::spec::source::Spanned;
use crate::spec::value::{Name, account_id};
use crate::spec::yaml::Node;

impl Decoder<'_> {
    /// One stage. `name` is `None` if it was refused; the rest is checked all the same.
    pub(crate) fn stage(
        &mut self,
        key: &Spanned<String>,
        name: Option<Spanned<Name>>,
        node: &Node,
    ) -> Option<Stage> {
        let help = format!(
            "write:\n{}:\n  from: scratch\n  steps:\n    - copy: .",
            key.value
        );
        let fields = self.fields(node, &STAGE, &help)?;
        let from = self.base(&fields, name.as_ref());
        let workdir = self.optional(&fields, "workdir");
        let users = self.maps(&fields, "users", "{name: app, uid: 1000}");
        let users = users.iter().filter_map(|user| self.user(user)).collect();
        let groups = self.maps(&fields, "groups", "{name: app, gid: 1000}");
        let groups = groups
            .iter()
            .filter_map(|group| self.group(group))
            .collect();
        let steps = self.steps(&fields);
        let config = fields
            .value("config")
            .and_then(|node| self.fields(node, &CONFIG, "write `config: {user: …, cmd: […]}`"))
            .map(|fields| self.config(&fields));
        let allow = self.list(&fields, "allow", Brackets::Needed);
        Some(Stage {
            name: name?,
            home: Home::Own,
            from: from?,
            workdir,
            users,
            groups,
            steps,
            config: config.unwrap_or_default(),
            allow,
        })
    }

    fn user(&mut self, node: &Node) -> Option<NewUser> {
        let help = "write `{name: app, uid: 1000}`";
        let fields = self.fields(node, &USER, help)?;
        let name = self.needed(&fields, "name", help);
        let uid = self.required(&fields, "uid", help);
        let uid = uid.and_then(|node| self.converted(node, "uid", account_id));
        let gid = fields.value("gid");
        let gid = gid.and_then(|node| self.converted(node, "gid", account_id));
        let home = self.optional(&fields, "home");
        let shell = self.optional(&fields, "shell");
        let groups = self.list(&fields, "groups", Brackets::Needed);
        Some(NewUser {
            name: name?,
            uid: uid?,
            gid,
            home,
            shell,
            groups,
        })
    }

    fn group(&mut self, node: &Node) -> Option<NewGroup> {
        let help = "write `{name: app, gid: 1000}`";
        let fields = self.fields(node, &GROUP, help)?;
        let name = self.needed(&fields, "name", help);
        let gid = self.required(&fields, "gid", help);
        let gid = gid.and_then(|node| self.converted(node, "gid", account_id));
        Some(NewGroup {
            name: name?,
            gid: gid?,
        })
    }
}
