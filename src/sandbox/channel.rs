//! The socket between two of the processes: framed messages, and files handed over.
//!
//! Messages are JSON with their length before it. Both ends are the same program, started by each
//! other, so there is no version; a length out of all reason is refused all the same.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// More than any job: secrets and environments are small.
const MAX_MESSAGE: u32 = 64 << 20;

/// Sends a message.
pub(crate) fn send<T: Serialize>(mut socket: &UnixStream, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= MAX_MESSAGE)
        .ok_or_else(|| io::Error::other("a message of more than 64 MiB"))?;
    socket.write_all(&length.to_le_bytes())?;
    socket.write_all(&bytes)
}

/// Waits for a message; `None` when the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Err(error) if is_end(&error) => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    match socket.read_exact(&mut bytes) {
        Err(error) if is_end(&error) => return Ok(None),
        other => other?,
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(io::Error::other)
}

/// Whether the other side has gone. One that was killed resets the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

/// Hands an open file over. The other side must expect it: [`receive_file`].
pub(crate) fn send_file(socket: &UnixStream, file: impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&files));
    let byte = [IoSlice::new(&[0])];
    rustix::net::sendmsg(socket, &byte, &mut control, SendFlags::empty())?;
    Ok(())
}

/// Takes an open file.
pub(crate) fn receive_file(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn messages_and_files_arrive_in_order() {
        let (left, right) = UnixStream::pair().unwrap();
        send(&left, &"one").unwrap();
        let file = File::open("/dev/null").unwrap();
        send_file(&left, &file).unwrap();
        send(&left, &2).unwrap();
        drop(left);
        assert_eq!(receive::<String>(&right).unwrap().unwrap(), "one");
        assert_ne!(receive_file(&right).unwrap().as_raw_fd(), file.as_raw_fd());
        assert_eq!(receive::<u8>(&right).unwrap(), Some(2));
        assert_eq!(receive::<u8>(&right).unwrap(), None);
    }

    #[test]
    fn a_length_out_of_reason_is_refused() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(receive::<u8>(&right).is_err());
    }
}
