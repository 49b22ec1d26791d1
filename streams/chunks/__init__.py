"""The chunked Kafka transport: runs of records of one partition, stamped where they are drained."""
