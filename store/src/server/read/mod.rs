//! From a question to the rows: read indexes, views with a budget, ranges in
//! chunks, and the watches of what was applied.

pub mod budgeted_view;
pub mod range_stream;
pub mod read_index;
pub mod watching;
