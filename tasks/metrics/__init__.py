"""Truth and answers in, numbers out (pure): one file a family of metrics, all spoken to as `marks.Marks`."""
