"""What a store on an OpenBao server is made of: where things lie, who we are, how it is asked, who may what."""
