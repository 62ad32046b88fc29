//! Blobs that may not have reached the disk: named, so that a power cut is found out.
//!
//! Waiting until a blob is on the disk can take longer than making it. Nobody has to wait for the
//! page cache, which outlives every process; only a machine that goes down loses it. So a blob is
//! named at once, beside a note of the machine's boot. As long as the machine is up, the blob is
//! what was written. The first one to open the store after another boot reads the blobs that were
//! noted under an earlier one, and takes away those that are not what their names say. Where the
//! boot cannot be told, every blob waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::oci::{Digest, Hasher};
use crate::store::blobs::Store;
use crate::store::error::StoreError;
use crate::store::gc::{files, folders};

/// Notes of this boot in one store.
#[derive(Debug)]
pub(crate) struct Unsynced {
    folder: Option<PathBuf>,
}

impl Unsynced {
    /// Opens the notes of the store at `root`.
    pub(crate) fn open(root: &Path) -> Result<Unsynced, StoreError> {
        let folder = boot().map(|boot| root.join("unsynced").join(boot));
        if let Some(folder) = &folder {
            fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
        }
        Ok(Unsynced { folder })
    }

    /// The name of the time since the machine was started; `None` where the system gives none.
    pub(crate) fn boot(&self) -> Option<&str> {
        self.folder.as_ref()?.file_name()?.to_str()
    }

    /// Makes the file, which will be named after `digest` next, safe from a power cut: by a note,
    /// or else by waiting for the disk.
    pub(crate) fn secure(&self, file: &File, digest: &Digest) -> io::Result<()> {
        match &self.folder {
            Some(folder) => {
                let mut note = OpenOptions::new();
                note.write(true).create(true).truncate(false);
                note.open(folder.join(digest.hex())).map(drop)
            }
            None => file.sync_data(),
        }
    }
}

impl Store {
    /// Hands all blobs that were noted to the disk, and takes away the notes.
    pub(crate) fn sync_noted(&self) -> Result<(), StoreError> {
        let Some(folder) = &self.unsynced().folder else {
            return Ok(());
        };
        for (note, _) in files(folder)? {
            let name = note.file_name().unwrap_or_default();
            let blob = self.root().join("blobs/sha256").join(name);
            match File::open(&blob).and_then(|blob| blob.sync_data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("write", &blob)(error));
                }
                _ => fs::remove_file(&note).map_err(StoreError::io("remove", &note))?,
            }
        }
        Ok(())
    }
}

/// Reads the blobs that were noted under other boots, and takes away the damaged ones. Whoever
/// calls this has the store alone.
pub(crate) fn verify_earlier_boots(root: &Path) -> Result<(), StoreError> {
    let notes = root.join("unsynced");
    if !notes.exists() {
        return Ok(());
    }
    let boot = boot();
    for folder in folders(&notes)? {
        if folder.file_name().and_then(|name| name.to_str()) == boot.as_deref() {
            continue;
        }
        for (note, _) in files(&folder)? {
            let hex = note.file_name().and_then(|name| name.to_str());
            let blob = root.join("blobs/sha256").join(hex.unwrap_or_default());
            if hex.is_some_and(|hex| is_damaged(&blob, hex)) {
                fs::remove_file(&blob).map_err(StoreError::io("remove", &blob))?;
            }
            fs::remove_file(&note).map_err(StoreError::io("remove", &note))?;
        }
        fs::remove_dir(&folder).map_err(StoreError::io("remove", &folder))?;
    }
    Ok(())
}

/// Whether a file is there and is not what its name says.
fn is_damaged(blob: &Path, hex: &str) -> bool {
    let Ok(mut file) = File::open(blob) else {
        return false;
    };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hasher.finish().hex() != hex,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// A name for the time since the machine was started; `None` where the system does not give one.
fn boot() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = text.trim();
    let is_plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    (!boot.is_empty() && boot.bytes().all(is_plain)).then(|| boot.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_power_cut_only_whole_blobs_are_left() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let store = Store::open(root).unwrap();
        let [whole, torn, synced] =
            [b"whole", b"torn!", b"early"].map(|bytes| store.put_blob(bytes).unwrap());
        let path = |digest: &Digest| store.blob_path(digest);
        fs::write(path(&torn), "to\0\0\0").unwrap();
        fs::write(path(&synced), "as it is").unwrap();
        let boot = root
            .join("unsynced")
            .join(boot().expect("Linux names its boots"));
        fs::remove_file(boot.join(synced.hex())).unwrap();
        fs::rename(&boot, root.join("unsynced/an-earlier-boot")).unwrap();
        drop(store.clone());
        let (whole, torn, synced) = (path(&whole), path(&torn), path(&synced));
        drop(store);
        let _again = Store::open(root).unwrap();
        assert!(whole.exists() && !torn.exists());
        // What had no note was on the disk; it is not read on every start.
        assert!(synced.exists());
        assert!(!root.join("unsynced/an-earlier-boot").exists());
    }

    #[test]
    fn blobs_of_this_boot_are_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let digest = store.put_blob(b"blob").unwrap();
        fs::write(store.blob_path(&digest), "other").unwrap();
        drop(store);
        let store = Store::open(scratch.path()).unwrap();
        assert!(store.contains_blob(&digest).unwrap());
    }
}
