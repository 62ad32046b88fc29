//! A few files in memory, by path: an image layout or archive that a test can spoil before it is
//! written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::raw_tar::{Header, RawTar, flag};

/// Files by their path inside a layout or archive.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileSet {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl FileSet {
    /// Writes the files below `directory`, which is created.
    pub(crate) fn write_to_directory(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("create a layout");
        for (path, content) in &self.files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create a layout");
            fs::write(path, content).expect("write a layout");
        }
    }

    /// Writes the files as one tar, with entries for their folders, which skopeo needs.
    pub(crate) fn write_as_tar(&self, path: &Path) {
        fs::write(path, self.tar()).expect("write an archive");
    }

    /// The files as one tar.
    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut tar = RawTar::new(Vec::new());
        let mut folders = Vec::new();
        for (path, content) in &self.files {
            for (slash, _) in path.match_indices('/') {
                let folder = &path[..=slash];
                if !folders.contains(&folder) {
                    folders.push(folder);
                    tar.entry(Header::new(flag::DIRECTORY, folder))
                        .expect("write to memory");
                }
            }
            tar.file(Header::new(flag::FILE, path), content)
                .expect("write to memory");
        }
        tar.finish().expect("write to memory")
    }

    /// The files of a directory, or of a tar if `path` is a file; an error if the tar names one
    /// twice.
    pub(crate) fn read(path: &Path) -> Result<FileSet, String> {
        let mut files = BTreeMap::new();
        if path.is_dir() {
            read_below(path, "", &mut files);
            return Ok(FileSet { files });
        }
        let mut archive = tar::Archive::new(File::open(path).expect("open an archive"));
        for entry in archive.entries().expect("read an archive") {
            let mut entry = entry.expect("read an archive");
            if entry.header().entry_type().is_file() {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("read an archive");
                if files.insert(name.clone(), content).is_some() {
                    return Err(format!("{name} is there twice"));
                }
            }
        }
        Ok(FileSet { files })
    }
}

fn read_below(root: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(root.join(below)).expect("list a layout") {
        let entry = entry.expect("list a layout");
        let name = entry
            .file_name()
            .into_string()
            .expect("layout names are UTF-8");
        let path = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type().expect("stat").is_dir() {
            read_below(root, &path, files);
        } else {
            let content = fs::read(entry.path()).expect("read a layout");
            files.insert(path, content);
        }
    }
}
