//! The log: a run of segments that writer, reader and keeper share.
